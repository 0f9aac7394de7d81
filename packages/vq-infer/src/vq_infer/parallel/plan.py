"""How one video is shared among processes, and which ways cannot be; free of heavy imports."""

from dataclasses import dataclass

from vq_core.errors import VqError
from vq_core.runtime.process import Process


@dataclass(frozen=True)
class ParallelPlan:
    """Degrees of what is shared; their product is the number of processes.

    Attributes:
        ulysses: processes that share the tokens, and in attention the heads (arXiv 2309.14509).
        ring: processes that share the tokens, and in attention pass keys and values around (arXiv 2310.01889).
        guidance: one half of the processes predicts with the prompt, the other without.
    """

    ulysses: int = 1
    ring: int = 1
    guidance: bool = False

    @property
    def shares(self) -> int:
        """Processes that share one prediction's tokens."""
        return self.ulysses * self.ring

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.shares * (2 if self.guidance else 1)

    @property
    def is_alone(self) -> bool:
        """Is there one process?"""
        return self.world == 1

    def share(self, tokens: int) -> int:
        """The most of a video's `tokens` that one process has."""
        return -(-tokens // self.shares)

    def check_launch(self, process: Process) -> None:
        """Refuse to run as another number of processes.

        Raises:
            VqError: says how to start it.
        """
        for name, degree in (("--ulysses", self.ulysses), ("--ring", self.ring)):
            if degree < 1:
                raise VqError(f"{name} {degree} is no number of processes: give 1 or more.")
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
        """Refuse what the model or the video does not allow.

        Args:
            heads: of the transformer's attention.
            tokens: of the video.
            guided: are there predictions with and without the prompt?

        Raises:
            VqError: says what does not divide.
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
            raise VqError(f"the video has {tokens} tokens for {self.shares} processes: use fewer.")
        if self.guidance and not guided:
            raise VqError(
                "--cfg-parallel needs guidance and it is off: leave it out, or give --guidance-scale above 1."
            )


UNSHARED = ParallelPlan()
