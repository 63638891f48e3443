"""The texts of the golden set; long ones are made by rule, so that the set stays small."""

import unicodedata

_LANGUAGES = """\
The quick brown fox jumps over the lazy dog.
A man is eating a piece of bread while his dog watches him from under the table.
How do I reset my password if I no longer have access to the e-mail address of my account?
The mitochondrion is the powerhouse of the cell; it produces most of its ATP.
She didn't say he'd gone -- only that they'd "left" (in 1999, for $3.50!).
Der schnelle braune Fuchs springt über den faulen Hund; Straße, Größe, Äpfel.
Portez ce vieux whisky au juge blond qui fume : à bientôt, cœur, naïve, garçon, Noël.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia; ¿qué pasó, señor? ¡Nada!
À noite, vovô Kowalsky vê o ímã cair no pé do pinguim queixoso.
Quel vituperabile xenofobo zelante assaggia il whisky ed esclama: alleluja! Perché no?
Pchnąć w tę łódź jeża lub ośm skrzyń fig. Zażółć gęślą jaźń.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Árvíztűrő tükörfúrógép; őszi eső.
Flygande bäckasiner söka hwila på mjuka tuvor. Blåbærsyltetøj, ærlig.
Törkylempijävongahdus, jäätelö, öljy.
Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul, ISPARTA, ıspanak.
Vxskaftbud, ge vår WC-zonmö IQ-hjälp.
Sævör grét áðan því úlpan var ónýt. Þjóðvegur.
Eble ĉiu kvazaŭ-deca fuŝĥoraĵo ĝojigos homtipon.
Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΟΔΥΣΣΕΥΣ, Οδυσσεύς, σοφός ΣΑΣ.
Съешь же ещё этих мягких французских булок, да выпей чаю. Ёлка, йод.
Чуєш їх, доцю, га? Кумедна ж ти, прощайся без ґольфів!
Жълтата дюля беше щастлива, че пухът, който цъфна, замръзна като гьон.
Љубазни фењерџија чађавог лица хоће да ми покаже штос.
דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עוֹלָם
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق. السَّلَامُ عَلَيْكُمْ
ویرایش فارسی: می‌خواهم گربه‌ها را ببینم؛ چرا؟
اردو ہے جس کا نام ہمیں جانتے ہیں داغ۔
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। क्षत्रिय ज़िंदगी
আমি কাঁচ খেতে পারি, তাতে আমার কোনো ক্ষতি হয় না।
ਮੈਂ ਗਲਾਸ ਖਾ ਸਕਦਾ ਹਾਂ।
હું કાચ ખાઈ શકું છું અને તેથી મને દુખતું નથી.
நான் கண்ணாடி சாப்பிடுவேன், அதனால் எனக்கு ஒரு கேடும் வராது.
నేను గాజు తినగలను మరియు అలా చేసినా నాకు ఏమి ఇబ్బంది లేదు.
ನನಗೆ ಹಾನಿ ಆಗದೆ, ನಾನು ಗಜನ್ನು ತಿನಬಹುದು.
എനിക്ക് ഗ്ലാസ് തിന്നാം. അതെന്നെ വേദനിപ്പിക്കില്ല.
මට වීදුරු කෑමට හැකියි. එයින් මට කිසි හානියක් සිදු නොවේ.
ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ เป็นมนุษย์สุดประเสริฐเลิศคุณค่า
ຂອ້ຍກິນແກ້ວໄດ້ໂດຍທີ່ມັນບໍ່ໄດ້ເຮັດໃຫ້ຂອ້ຍເຈັບ.
ཤེལ་སྒོ་ཟ་ནས་ང་ན་གི་མ་རེད།
ကျွန်တော် ကျွန်မ မှန်စားနိုင်တယ်။ ၎င်းကြောင့် ထိခိုက်မှုမရှိပါ။
ខ្ញុំអាចញុំកញ្ចក់បាន ដោយគ្មានបញ្ហា។
მინას ვჭამ და არა მტკივა. ᲛᲘᲜᲐᲡ
Կրնամ ապակի ուտել և ինծի անհանգիստ չըներ։
እንጀራ መብላት እችላለሁ፤ አይጎዳኝም።
我能吞下玻璃而不伤身体。你好，世界！
我能吞下玻璃而不傷身體。「繁體中文」
私はガラスを食べられます。それは私を傷つけません。ｶﾀｶﾅ、ガギグゲゴ。
나는 유리를 먹을 수 있어요. 그래도 아프지 않아요. 안녕하세요 세계
ᎣᏏᏲ ᎡᎶᎯ ꭳꮟᏺ
ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ᛫ᚠᛁᚱᚪ᛫ᚷᛖᚻᚹᛦᛚᚳᚢᛗ
ᠪᠢ ᠰᠢᠯᠢ ᠢᠳᠡᠶᠦ ᠴᠢᠳᠠᠨᠠ
⠊⠀⠉⠁⠝⠀⠑⠁⠞⠀⠛⠇⠁⠎⠎
"""

_CODE = """\
for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; } // O(n)
def f(x: int) -> int:\\n\\treturn x ** 2 if x != 0 else None
SELECT id, COUNT(*) FROM t WHERE name LIKE '%foo_bar%' GROUP BY 1;
<div class="a-b" id='c'>&nbsp;&lt;tag/&gt;</div>
https://example.com/path/to/page?query=1&other=%20two#fragment
user.name+tag@sub.example.co.uk, C:\\Windows\\System32, ~/.bashrc
{"key": [1, 2.5e-10, null, true], "nested": {"a": "b\\"c"}}
#!/bin/sh -eu | grep -E '^[a-z]+$' && echo $((1+1)) >> /dev/null 2>&1
\\frac{\\partial u}{\\partial t} = \\alpha \\nabla^2 u
snake_case camelCase PascalCase kebab-case SCREAMING_CASE v1.2.3-rc.4
0xDEADBEEF 1_000_000 3.14159 1e-5 -273.15 50% #42 @home ^caret~tilde`tick`
"""

_EMOJI = (
    "😀 happy",
    "family 👨‍👩‍👧‍👦 together",
    "👩🏽‍💻 at work, 👍🏿👍🏻",
    "flags 🇩🇪🇯🇵🇧🇷 🏴󠁧󠁢󠁳󠁣󠁴󠁿 🏳️‍🌈",
    "keycap 1️⃣ #️⃣ ❤️ ❤ ☺︎",
    "❤️‍🔥 🧑‍🚀 🫠 🫨 🩷",
    "text😀glued😀to emoji",
)

_SPECIALS = (
    "[MASK]",
    "a [MASK] b",
    "a[MASK]b",
    "[CLS] [SEP] [PAD] [UNK]",
    "[CLS][SEP][PAD][UNK][MASK]",
    "[mask] [Mask] [cls]",
    "[ MASK ] [MASK [MASK]]",
    "[MA\u200bSK] [MA\u00adSK]",
    "[unused1] [unused99]",
    "##ing ## # ###",
    "Paris is the [MASK] of France.[SEP]Really?",
)

_MARKS = (
    "e\u0301 \u00e9 E\u0301 \u00c9",
    "a\u0323\u0302 \u1ead a\u0302\u0323",
    "Z\u0351\u0343\u0313a\u0322\u034el\u0308\u0301g\u0327o\u0336",
    "\u0301leading \u0301",
    "n\u0303 \u00f1 \u1e69 s\u0323\u0307 s\u0307\u0323",
    "\u1100\u1161\u11a8 \uac01 \u1112\u1161\u11ab\u1100\u1173\u11af 한글",
    "ﬁ ﬂ ﬀ ﬃ ﬆ ĳ ǆ ǅ Ǆ ŉ",
    "ΣΑΣ ΟΔΟΣ Σ ς σ Σ. ΑΣ,ΒΣ",
    "İstanbul I\u0307 ı I i̇ dotless",
    "ß ẞ STRASSE ſ K Å Ω Ω µ μ",
    "½ ² ³ ¹ № ™ ℡ ㎏ Ⅷ ⅷ ① ⒈ ㈱",
    "ＦＵＬＬ ｗｉｄｔｈ １２３ ！？",
    "𝐁𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉 𝔉𝔯𝔞𝔨 𝟘𝟙𝟚",
    "豈更車 \U0002f800 \U0002f80a 㒞 \U00020000 \U0002b820 \U0002b920",
)

_SPACES_AND_CONTROLS = (
    "",
    " ",
    "\t\n\r",
    "\x00",
    "a\x00b",
    "a\x01b\x1fc\x7fd\x85e\x9f",
    "a\tb\nc\rd\x0be\x0cf",
    "no\u00a0break\u2007figure\u202fnarrow",
    "en\u2002em\u2003thin\u2009hair\u200aideographic\u3000ogham\u1680",
    "zero\u200bwidth\u200cnon\u200djoiner\u2060word\ufeffbom",
    "line\u2028separator\u2029paragraph",
    "soft\u00adhyphen mongolian\u180evowel",
    "\u202eright to left override\u202c \u2066isolate\u2069",
    "\ufeffBOM at the start",
    "replacement \ufffd character a\ufffdb",
    "private \ue000\uf8ff\U000f0000\U0010fffd use",
    "noncharacter \ufffe \uffff \U0001ffff \U0010ffff a\ufffeb",
    "unassigned \u0378 \U000e1000 a\u0378b",
    "interlinear \ufff9anchor\ufffaseparator\ufffb",
    "tags \U000e0001\U000e0041\U000e007f",
)

_WORDS = ("alpha", "beta", "gamma", "Straße", "naïve", "日本", "мир", "x1", "[MASK]", "e\u0301", "-", "😀")


def golden_texts() -> list[str]:
    """All texts of the set, in the order of the stored vectors."""
    texts = [*_LANGUAGES.splitlines(), *(line.replace("\\n\\t", "\n\t") for line in _CODE.splitlines())]
    texts += [*_EMOJI, *_SPECIALS, *_MARKS, *_SPACES_AND_CONTROLS]
    # Each general category that a text can hold: its characters glued into words, and alone.
    members: dict[str, list[str]] = {}
    for code in range(0x110000):
        category = unicodedata.ucd_3_2_0.category(chr(code))  # a frozen table: the same texts on every Python
        if category != "Cs":
            members.setdefault(category, []).append(chr(code))
    for category, chars in sorted(members.items()):
        some = [chars[i * len(chars) // 24] for i in range(24)]
        texts.append(f"{category}: " + " ".join(some))
        texts.append(f"{category} glued: " + " ".join(f"w{char}x" for char in some))
    for character in ("a", "é", "я", "ก", "あ", "한", "𐐀", "中", "ä\u0323", "-"):
        texts += [character * length for length in (99, 100, 101)]
        texts.append(f"before {character * 150} after")
    for length in (100, 1_000, 10_000):  # characters; 10,000 is far beyond the model's window
        for step in (1, 5, 7):
            words = " ".join(_WORDS[i * step % len(_WORDS)] for i in range(length))
            texts.append(words[:length])
    texts += ["word " * count for count in (253, 254, 255, 256, 400)]
    texts += ["x" * 10_000, "a." * 5_000, "\u0301" * 10_000, "中" * 10_000, " " * 10_000]
    return texts
