"""One run of the job: plan or resume, run, balance, finish."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pipeline.cluster import remote, runners
from pipeline.cluster.cluster import Cluster
from pipeline.cluster.preflight import prepare
from pipeline.cluster.probe import probe
from pipeline.job import Job, check_same_job, new_job, pinned, with_choices
from pipeline.options.arguments import in_flags
from pipeline.options.options import Options
from pipeline.plan.fits import check_files
from pipeline.plan.kept import take_sample
from pipeline.plan.plan import Plan, Planned, make_plan
from pipeline.run import changes
from pipeline.run.finish import Books
from pipeline.run.loading import importing, shared_encoder, start_loading, taken_by
from pipeline.run.output import check_empty, clear, output_lock, read_run, write_plan, write_run
from pipeline.run.progress import Progress
from pipeline.run.screen import Screen
from transforms.encoder.model.handle import digest, resolve, revision
from transforms.errors import UsageError
from transforms.observer import observe
from transforms.output import forgotten, layout, ledger, plan_file, pointer
from transforms.output.folder import Folder
from transforms.output.manifest import Manifest

if TYPE_CHECKING:
    from pipeline.run.reuse import Reusing
    from transforms.encoder.hub import HubEncoder
    from transforms.steps.reuse import ReuseConfig


def run(
    options: Options, screen: Screen, progress: Progress, planned: Planned = lambda _: None
) -> Manifest | None:
    """Runs the job that the options describe, or goes on with it where it was.

    Args:
      screen: where it is said what is done.
      progress: counts what happens, for a summary.
      planned: is shown the plan of a new job, before anything is written, and may raise UsageError.

    Returns:
      The manifest; None where the job was sent to a runner that nobody waits for (Dataflow).

    Raises:
      UsageError: the user's mistake; nothing was started.
      EmbedbeamError: the job ran and something is wrong.
    """
    if options.dry_run:
        raise UsageError(
            "dry_run prints a plan and makes no manifest; use it on the command line", argument="dry_run"
        )
    started = time.time()
    with screen.doing("checking the options"):
        cluster = prepare(options)
    launch = _Launch(options, screen, progress, cluster, planned)
    if cluster.options.get("dry_run"):
        launch.build_only()
        return None
    folder = Folder(options.output)
    pointer.refuse(folder, "--output")
    with output_lock(folder):
        books = launch.resume(folder) or launch.begin(folder)
        progress.replaced = ""
        return books.finished() or launch.work(books, started)


@dataclasses.dataclass
class _Launch:
    """A run in this process.

    Attributes:
      cluster: where it runs; once it was asked (`look_at_cluster`), with what it told.
      planned: as in `run`.
      loading: the model, where it is needed.
    """

    options: Options
    screen: Screen
    progress: Progress
    cluster: Cluster
    planned: Planned = lambda _: None
    loading: Future[HubEncoder] | None = None

    def resume(self, folder: Folder) -> Books | None:
        """A job that is there already; None where a new one begins."""
        options, screen = self.options, self.screen
        with screen.doing("reading the plan"):
            plan = None if options.overwrite else plan_file.read(folder)
        if plan is None:
            return None
        forgotten.check_ended(folder, plan.job)
        books = Books.of(folder, plan, options)
        with screen.doing("checking the model"):
            own = pinned(books.job, options)
            handles = filter(None, (own.model, own.preprocessor))
            check_same_job(books.job, options, digest(*map(resolve, handles)), revision(own.model))
        self.options = with_choices(own, books.job)
        if not options.quiet:
            with screen.doing("listing the input"):
                for note in changes.notes(options, books.shards):
                    screen.say(note)
        return books

    def begin(self, folder: Folder) -> Books:
        """A new job, with its plan in the folder."""
        check_empty(folder)
        job, plan = self.plan_job()
        self.reuse(job)  # says what does not fit before anything is deleted
        if self.options.overwrite:
            self.progress.replaced = "is partly deleted"
        clear(folder)  # only now: a mistake in the command costs nobody an output
        return Books(folder, write_plan(folder, job, plan), plan.shards, self.options)

    def plan_job(self) -> tuple[Job, Plan]:
        """The plan and the record of a new job; the model is loaded and all is checked here."""
        earlier = (
            None if self.reusing is None else self.reusing.shard_bytes
        )  # mistakes are told before all else
        loading = self.loading = start_loading(self.options, self.screen)
        self.look_at_cluster()
        options, screen = self.options, self.screen
        if not self.cluster.is_local:
            options = dataclasses.replace(options, worker_gpus=self.cluster.gpus)
        of = taken_by(options, loading)
        options = dataclasses.replace(options, modality=of.name, text_field=options.text_field or of.field)
        with screen.doing("listing the input"):
            plan = make_plan(options, of, parallelism=self.cluster.slots or 1, earlier=earlier)
            check_files(plan, of, options.near_duplicates)
        with screen.doing("sampling the input"):
            kept = self.planned(plan)
            kept = take_sample(plan, options, of).kept if kept is None else kept
        if plan.unknown:
            screen.say(f"not read: {len(plan.unknown):,} files of unknown kind, e.g. {plan.unknown[0]}")
        if loading.done():
            loading.result()  # raises what is wrong with it, if anything is
        self.import_submit()  # while the model is loaded
        encoder, near = loading.result(), self.cluster.in_process
        if near and (tuned := encoder.tuned):
            tokens = "" if options.batch_tokens else f" of {tuned.batch_tokens:,} tokens"
            screen.say(
                f"mini-batches{tokens}, {tuned.in_flight} in flight, as tuned on {tuned.date} for this model "
                f"on {tuned.where}"
            )
        for note in encoder.notes:
            screen.say(in_flags(UsageError(note)))
        return new_job(options, plan, kept, encoder, near=near), plan

    @functools.cached_property
    def reusing(self) -> Reusing | None:
        """The outputs that are to be reused, opened; None where there are none."""
        if not self.options.reuse:
            return None
        from pipeline.run.reuse import Reusing

        with self.screen.doing("opening what is reused"):
            return Reusing(self.options.reuse, self.options.output)

    def reuse(self, job: Job) -> ReuseConfig | None:
        """Those of them whose vectors a job can use."""
        joined = not self.cluster.in_process
        return None if self.reusing is None else self.reusing.config(job, self.screen, joined=joined)

    def look_at_cluster(self) -> None:
        """Is it there, and has an earlier run's job ended?"""
        if not self.cluster.is_local:
            with self.screen.doing("asking the cluster"):
                self.cluster = probe(self.cluster, self.screen)
                remote.RemoteJob(self.cluster).wait_for_twin(self.options.output, self.screen.tell)

    def import_submit(self) -> Any:
        """The module that does it, once Beam is imported."""
        with self.screen.doing("importing Beam"), importing():
            from pipeline.run import submit

        return submit

    def work(self, books: Books, started: float) -> Manifest | None:
        """Does what is left of a job, until the books balance."""
        folder, job = books.folder, books.job
        last_runner = read_run(folder, job.identity).get("runner", self.options.runner)
        if self.cluster.is_local and last_runner in runners.LOCAL:
            folder.sweep()  # elsewhere a worker that was thought dead may still be writing
        folder.delete(layout.SUCCESS)
        folder.delete_files(layout.FAILURES)
        left = self.left(books)
        while True:
            if not left:
                with self.screen.doing("balancing the books"):
                    # Each is read once, after the work. What a late worker of another job left is found here.
                    receipts = books.receipts()
                    left = ledger.drop_others(folder, receipts)
                if not left:
                    return books.complete(receipts, started)
            if self.loading is None:
                self.look_at_cluster()
                left = self.left(books)  # an earlier run's job may have done it meanwhile
                if not left:
                    continue
                self.loading = start_loading(self.options, self.screen, job.model_digest, job.intra_op)
            sent = self.submit(books, self.loading)
            if sent is not None:
                output, runner = self.options.output, self.options.runner
                self.screen.say(
                    f"Created job with id: [{sent}] on {runner}; it goes on without this process. How far it "
                    f"is: `embedbeam status {output}`; once it has ended, `embedbeam finish {output}` "
                    "balances it and writes _SUCCESS"
                )
                return None
            left = 0  # or the books say why not

    def left(self, books: Books) -> int:
        with self.screen.doing("reading the receipts"):
            return books.left()

    def submit(self, books: Books, loading: Future[HubEncoder]) -> str | None:
        """Runs the pipeline; returns the id of a job that goes on without this process."""
        submit, loaded, progress = self.import_submit(), loading.result(), self.progress
        encoder = shared_encoder(self.options, loaded, books.job.intra_op)
        config = submit.pipeline_config(self.options, books.job, encoder, self.reuse(books.job))
        if books.job.duplicates != "each":
            from pipeline.run.copies import with_copies

            joined = not self.cluster.in_process
            config = with_copies(config, books.job, books.shards, self.screen, joined=joined)
        write_run(books.folder, books.job, loaded.device_name, self.options.runner)
        progress.begin(books.folder, books.job.identity, books.shards, near=self.cluster.in_process)
        with contextlib.ExitStack() as stack:
            stack.callback(observe(progress.hear))
            stack.enter_context(self.screen.doing(progress.line))
            sent: str | None = submit.submit(config, self.cluster)
        progress.end()
        return sent

    def build_only(self) -> None:
        """Beam's own --dry_run, which Dataflow has: the job is built and checked; nothing is sent."""
        job, _ = self.plan_job()
        assert self.loading is not None
        encoder = shared_encoder(self.options, self.loading.result(), job.intra_op)
        submit = self.import_submit()
        submit.submit(submit.pipeline_config(self.options, job, encoder), self.cluster)
        self.screen.say(f"job {self.cluster.job_name} was built for {self.options.runner}; nothing was sent")
