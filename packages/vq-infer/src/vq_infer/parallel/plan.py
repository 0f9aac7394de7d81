"""How processes share one video, and which ways are not possible; free of heavy imports."""

from dataclasses import dataclass

from vq_core.errors import VqError
from vq_core.runtime.process import Process


@dataclass(frozen=True)
class ParallelPlan:
    """Degrees of parallelism; their product is the number of processes.

    Attributes:
        ulysses: processes that split the tokens, and in attention the heads (arXiv 2309.14509).
        ring: processes that split the tokens, and in attention pass keys and values around (arXiv 2310.01889).
        guidance: whether one half of the processes predicts with the prompt and the other without.
    """

    ulysses: int = 1
    ring: int = 1
    guidance: bool = False

    @property
    def shares(self) -> int:
        """Number of processes that split the tokens of one prediction."""
        return self.ulysses * self.ring

    @property
    def world(self) -> int:
        """Number of all processes."""
        return self.shares * (2 if self.guidance else 1)

    @property
    def is_alone(self) -> bool:
        """Whether there is only one process."""
        return self.world == 1

    def share(self, tokens: int) -> int:
        """The most of a video's `tokens` that a process has."""
        return -(-tokens // self.shares)

    def check_launch(self, process: Process) -> None:
        """Check that the number of processes is that of the plan.

        Raises:
            VqError: it is not; says how to start the command.
        """
        for name, degree in (("--ulysses", self.ulysses), ("--ring", self.ring)):
            if degree < 1:
                raise VqError(f"{name} {degree} is not a number of processes: give 1 or more.")
        if process.world_size == self.world:
            return
        if self.is_alone:
            raise VqError(
                f"torchrun started {process.world_size} processes and each would make the whole video: "
                f"say how they share it, with --ulysses {process.world_size} for example."
            )
        guidance = " and --cfg-parallel" if self.guidance else ""
        raise VqError(
            f"--ulysses {self.ulysses}, --ring {self.ring}{guidance} share a video among {self.world} processes "
            f"and there are {process.world_size}: start `torchrun --nproc-per-node {self.world} -m vq_infer …`."
        )

    def check_video(self, *, heads: int, tokens: int, guided: bool) -> None:
        """Check that the model and the video can be split this way.

        Args:
            heads: of the transformer's attention.
            tokens: of the video.
            guided: whether there are predictions with and without the prompt.

        Raises:
            VqError: heads or tokens do not divide, or guidance is off.
        """
        if heads % self.ulysses:
            fitting = ", ".join(str(degree) for degree in range(2, heads + 1) if heads % degree == 0)
            raise VqError(f"--ulysses {self.ulysses} does not divide the model's {heads} heads: use one of {fitting}.")
        if tokens % self.shares and (self.ulysses > 1 and self.ring > 1):
            raise VqError(
                f"the video's {tokens} tokens do not divide among --ulysses {self.ulysses} times --ring {self.ring}: "
                "use one of the two, or another size."
            )
        if tokens < self.shares:
            raise VqError(f"the video has {tokens} tokens for {self.shares} processes: use fewer processes.")
        if self.guidance and not guided:
            raise VqError(
                "--cfg-parallel needs guidance, which is off: leave it out, or give --guidance-scale above 1."
            )


UNSHARED = ParallelPlan()
