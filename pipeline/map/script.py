"""The script and style of an interactive map in a page that needs nothing else."""

from __future__ import annotations

import base64
import gzip
import json
from html import escape
from typing import Any

from pipeline.map.points import COLOURS, OTHER_COLOUR

SVG_POINTS = 10_000  # more are drawn by WebGL, where there is one

STYLE = """
:root{--ink:#1c2024;--dim:#5c6670;--paper:#fff;--card:#f5f6f8;--line:#d9dde2;--accent:#2b6cb0;--warn:#8a4b00;
--warn-paper:#fff4e0}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--dim:#a4adb8;--paper:#14171a;--card:#1f2327;
--line:#3a4048;--accent:#7fb5ee;--warn:#ffc46b;--warn-paper:#33270f}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:16px}
.map select{font:inherit;max-width:100%;color:var(--ink);background:var(--card);border:1px solid var(--line);
border-radius:4px;padding:3px 6px}
.plot{width:100%;height:min(78vh,620px)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:13px;margin:6px 0;overflow-wrap:anywhere}
.legend i{display:inline-block;width:11px;height:11px;border-radius:50%;margin-right:5px;vertical-align:-1px}
.legend .diamond{border-radius:0;transform:rotate(45deg) scale(.8)}
.legend .ring{background:none!important;border:2px solid}
.legend button{font:inherit;color:inherit;background:none;border:0;padding:2px 0;
cursor:pointer;text-align:start}
.legend button[aria-pressed=false]{opacity:.4;text-decoration:line-through}
.shown{min-height:7.5em;background:var(--card);border:1px solid var(--line);border-radius:6px;
padding:8px 12px;overflow-wrap:anywhere;font-size:14px}
.shown b{display:block}.shown p{margin:4px 0}.shown small,.note{color:var(--dim);font-size:13px}
"""

_SCRIPT = """
(async () => {
  const box = document.querySelector('.map');
  const data = JSON.parse(document.getElementById('points').textContent);
  const plot = box.querySelector('.plot'), select = box.querySelector('select');
  const shown = box.querySelector('.shown'), legend = box.querySelector('.legend');
  const packed = Uint8Array.from(atob(document.getElementById('plotly').textContent), c => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const library = document.createElement('script');
  library.textContent = await new Response(unpacked).text();
  document.head.append(library);

  const deep = 'z' in data.places, count = data.ids.length, hidden = new Set();
  const gl = count > data.svg && !!document.createElement('canvas').getContext('webgl');
  const type = deep ? 'scatter3d' : gl ? 'scattergl' : 'scatter';
  const size = deep ? 3 : count > 20000 ? 3 : count > 3000 ? 4.5 : 6;
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plain = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
  const short = text => text.length > 40 ? text.slice(0, 39) + '…' : text;

  // The commonest values by name, and all others as one group.
  function groups(field) {
    const most = data.colours.length, more = field.names.length - most;
    const sum = counts => counts.reduce((a, b) => a + b, 0);
    const named = field.names.slice(0, most).map((name, i) => [name, field.counts[i]]);
    if (more > 0) named.push([`${more.toLocaleString('en')} others`, sum(field.counts.slice(most))]);
    return named;
  }
  function mark(group) {
    if (group >= data.colours.length)
      return {color: data.other, opacity: .45, symbol: 'circle-open', size: size * .7};
    return {color: data.colours[group], opacity: .85, symbol: group < 5 ? 'circle' : 'diamond'};
  }
  function trace(rows, marker, name) {
    const one = {type, mode: 'markers', name, customdata: rows, marker: {size, ...marker}, showlegend: false,
      text: rows.map(i => plain(short(data.ids[i]))), hovertemplate: '%{text}<extra></extra>'};
    for (const axis in data.places) one[axis] = rows.map(i => data.places[axis][i]);
    return one;
  }
  function traces() {
    const field = data.fields[select.value];
    const all = [...Array(count).keys()];
    if (!field) return [trace(all, {color: data.colours[0], opacity: .7}, '')];
    if (field.kind === 'number') {
      const bar = {thickness: 12, len: .8, outlinewidth: 0, tickfont: {color: css('--ink')}};
      const none = all.filter(i => field.values[i] === null);
      const known = all.filter(i => field.values[i] !== null);
      const made = [trace(known, {color: known.map(i => field.values[i]), colorscale: 'Cividis',
        showscale: true, opacity: .85, colorbar: bar}, select.value)];
      return none.length ? [trace(none, {color: data.other, opacity: .35}, '(none)'), ...made] : made;
    }
    const rows = groups(field).map(() => []);
    field.values.forEach((value, i) => rows[Math.min(value, data.colours.length)].push(i));
    const made = rows.map((some, group) => hidden.has(group) ? null : trace(some, mark(group), ''));
    return made.reverse().filter(Boolean);  // the commonest last, above the others
  }
  function layout() {
    const axis = {color: css('--dim'), gridcolor: css('--line'), zeroline: false, title: {text: ''}};
    const card = {bgcolor: css('--card'), bordercolor: css('--line'), font: {color: css('--ink')}};
    const made = {hoverlabel: card, modebar: {bgcolor: 'rgba(0,0,0,0)', color: css('--dim'),
      activecolor: css('--accent')}, hovermode: 'closest',
      paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
      font: {color: css('--ink')}, margin: {l: 36, r: 8, t: 28, b: 28}, dragmode: deep ? 'orbit' : 'pan',
      uirevision: 1, annotations: (data.labels || []).map(label => ({...label, text: plain(label.text),
        showarrow: false, font: {size: 12, color: css('--ink')}, bgcolor: css('--paper'), opacity: .85}))};
    if (deep) made.scene = {xaxis: axis, yaxis: axis, zaxis: axis, annotations: made.annotations};
    if (deep) made.annotations = [];
    return deep ? made : {...made, xaxis: axis, yaxis: axis};
  }
  function draw() {
    return Plotly.react(plot, traces(), layout(), {responsive: true, scrollZoom: true, displaylogo: false,
      modeBarButtons: [deep ? ['zoom3d', 'pan3d', 'orbitRotation', 'resetCameraDefault3d']
        : ['zoom2d', 'pan2d', 'zoomIn2d', 'zoomOut2d', 'resetScale2d']]});
  }
  // Of labels that overlap the one of the larger cluster stays; zoom in to see the others.
  function hideLabels() {
    const kept = [];
    for (const label of plot.querySelectorAll('.annotation')) {
      const box = label.getBoundingClientRect();
      const free = kept.every(other => box.right < other.left || other.right < box.left
        || box.bottom < other.top || other.bottom < box.top);
      label.style.visibility = free ? '' : 'hidden';
      if (free) kept.push(box);
    }
  }
  function drawLegend() {
    const field = data.fields[select.value];
    legend.replaceChildren();
    if (!field || field.kind === 'number') return;
    groups(field).forEach(([name, points], group) => {
      const button = document.createElement('button'), dot = document.createElement('i');
      dot.className = group < 5 ? '' : group < data.colours.length ? 'diamond' : 'ring';
      dot.style.borderColor = dot.style.background = data.colours[group] || data.other;
      button.type = 'button';
      button.setAttribute('aria-pressed', !hidden.has(group));
      button.append(dot, `${name} (${points.toLocaleString('en')})`);
      button.onclick = () => { hidden.delete(group) || hidden.add(group); drawLegend(); draw(); };
      legend.append(button);
    });
  }
  function show(i) {
    const line = (kind, text) => {
      const made = document.createElement(kind);
      made.dir = 'auto';
      made.textContent = text;
      return made;
    };
    const values = Object.entries(data.fields).map(([name, field]) => `${name}: ${
      field.kind === 'number' ? field.values[i] ?? '(none)' : field.names[field.values[i]]}`);
    shown.replaceChildren(line('b', data.ids[i]), line('p', data.texts ? data.texts[i] : ''),
      line('small', values.join(' · ')));
  }
  for (const name in data.fields) select.add(new Option(name, name, false, name === data.first));
  select.onchange = () => { hidden.clear(); drawLegend(); draw(); };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  drawLegend();
  await draw();
  for (const event of ['plotly_hover', 'plotly_click'])
    plot.on(event, found => show(found.points[0].customdata));
  plot.on('plotly_afterplot', hideLabels);
  hideLabels();
  box.dataset.ready = 'yes';
})();
"""


def as_json(data: Any) -> str:
    """JSON that may stand inside a script element, whatever its texts hold."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def map_html(data: dict[str, Any], note: str) -> str:
    """The elements of a map: a selection of fields, the plot, its legend, and the document under the pointer.

    plotly.js lies in it, compressed: 2 MB instead of 4.8.

    Args:
      data: as `page_data` has it; may have `labels`, places with a text.
      note: a sentence about the points.
    """
    from plotly.offline import get_plotlyjs

    known = {"colours": COLOURS, "other": OTHER_COLOUR, "svg": SVG_POINTS}
    library = base64.b64encode(gzip.compress(get_plotlyjs().encode(), 5, mtime=0)).decode()
    choose = "<label>Colour by <select></select></label>" if data["fields"] else "<select hidden></select>"
    return f"""<div class="map">
<p>{choose} <span class="note">{escape(note)}</span></p>
<div class="plot"></div><div class="legend"></div>
<div class="shown" aria-live="polite"><small>Point at a dot, or tap it, to see its document. Scroll or pinch
to zoom, drag to move, double-click to see everything again.</small></div>
</div>
<script type="application/json" id="points">{as_json(data | known)}</script>
<script type="text/plain" id="plotly">{library}</script>
<script>{_SCRIPT}</script>"""


def page(title: str, body: str, *, job: str, style: str = "") -> str:
    """A page that needs no other file and no network."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="embedbeam-job" content="{escape(job)}">
<title>{escape(title)}</title><link rel="icon" href="data:,">
<style>{STYLE}{style}</style></head><body><main>
{body}
</main></body></html>
"""
