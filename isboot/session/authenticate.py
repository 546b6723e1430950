"""The security stage with CHAP, one way and mutual: keys in, keys out (RFC 7143 §12.1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from isboot.errors import ExitStatus, SessionError
from isboot.session import chap
from isboot.session.keys import NOT_UNDERSTOOD, REJECT, shown
from isboot.session.pdu import ProtocolError
from isboot.values import Credentials

_CHAP_KEYS = ("CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R")


class AlgorithmsRefused(SessionError):  # noqa: N818 - what happened
    """The target takes none of the algorithms offered."""


class _Step(Enum):
    METHOD = "the target is to agree to CHAP"
    CHALLENGE = "the target is to send CHAP_A, CHAP_I, CHAP_C"
    PROOF = "the target is to prove itself, or to end the stage"
    OVER = "nothing is left to say"


@dataclass(slots=True)
class Authenticator:
    """
    One authentication. Secrets leave this object only as digests.

    :raises SessionError: at once, if both directions have the same secret
    """

    credentials: Credentials
    algorithms: tuple[chap.Algorithm, ...]
    initiator_name: str
    doing: str
    _step: _Step = _Step.METHOD
    _algorithm: chap.Algorithm | None = None
    _identifier: int = 0
    _challenge: bytes = b""
    _our_response: bytes = b""

    def __post_init__(self) -> None:
        credentials = self.credentials
        if not credentials.secret:
            raise self._refused(
                "a CHAP name but an empty secret", "give the secret that belongs to the CHAP name"
            )
        # RFC 7143 §9.2.1: with one secret for both, a target could have us compute its own proof.
        if credentials.is_mutual and credentials.secret == credentials.reverse_secret:
            raise self._refused(
                "both directions of CHAP have the same secret",
                "set another secret for the target's direction",
            )

    def next(
        self, method: str | None, pairs: dict[str, str], transit: bool
    ) -> tuple[list[tuple[str, str]], bool]:
        """
        Take what the target said in the security stage.

        :param method: its AuthMethod, None if it did not come
        :param pairs: all other keys
        :param transit: the target ends the stage with this
        :return: our keys, and whether to ask for the end of the stage with them
        """
        mine = {name: pairs[name] for name in _CHAP_KEYS if name in pairs}
        replies = [
            (name, NOT_UNDERSTOOD) for name in pairs if name not in mine and not _is_answer(pairs[name])
        ]
        self._check_order(method, mine)
        if self._step is _Step.METHOD:
            if method is None:
                if transit:
                    raise self._downgraded("the end of the stage")
                return replies, False
            if method != "CHAP":
                raise self._downgraded(f"AuthMethod={shown(method)}")
            self._step = _Step.CHALLENGE
            offer = ",".join(str(algorithm.number) for algorithm in self.algorithms)
            return [*replies, ("CHAP_A", offer)], False
        if self._step is _Step.CHALLENGE:
            if not mine:
                return replies, False
            return replies + self._answer_challenge(mine), True
        if self._step is _Step.PROOF:
            if mine:
                self._verify_proof(mine)
                self._step = _Step.OVER
            elif transit and self.credentials.is_mutual:
                raise self._refused(
                    "the target did not prove itself", "set the reverse CHAP name and secret at the target"
                )
        return replies, True

    def _check_order(self, method: str | None, mine: dict[str, str]) -> None:
        due = {
            _Step.METHOD: (),
            _Step.CHALLENGE: ("CHAP_A", "CHAP_I", "CHAP_C"),
            _Step.PROOF: ("CHAP_N", "CHAP_R") if self.credentials.is_mutual else (),
            _Step.OVER: (),
        }[self._step]
        if method is not None and self._step is not _Step.METHOD:
            raise ProtocolError(f"AuthMethod={shown(method)} a second time")
        if stray := [name for name in mine if name not in due]:
            raise ProtocolError(f"{', '.join(stray)} out of order: {self._step.value}")
        if mine.get("CHAP_A") == REJECT:
            names = ", ".join(algorithm.name for algorithm in self.algorithms)
            raise AlgorithmsRefused(
                f"{self.doing} refused: the target takes none of the CHAP algorithms {names}",
                "allow one of them at the target",
                ExitStatus.NOT_PERMITTED,
            )
        if mine and (missing := [name for name in due if name not in mine]):
            raise ProtocolError(f"{', '.join(mine)} without {', '.join(missing)}")

    def _answer_challenge(self, mine: dict[str, str]) -> list[tuple[str, str]]:
        offered = {str(algorithm.number): algorithm for algorithm in self.algorithms}
        self._algorithm = algorithm = offered.get(mine["CHAP_A"])
        if algorithm is None:
            raise ProtocolError(f"CHAP_A={shown(mine['CHAP_A'])}, which was not among those offered")
        identifier = chap.decode_identifier(mine["CHAP_I"])
        challenge = chap.decode_binary("CHAP_C", mine["CHAP_C"])
        if chap.is_reflected(challenge):
            raise self._refused(
                "the target sent a challenge of ours back",
                "something answers there that does not know the secret",
            )
        response = chap.respond(algorithm, identifier, self.credentials.secret.reveal(), challenge)
        self._our_response = response
        self._step = _Step.PROOF
        keys = [("CHAP_N", self.credentials.name), ("CHAP_R", chap.encode_binary(response))]
        if self.credentials.is_mutual:
            self._challenge = chap.new_challenge()
            # Another identifier than the target's: else both digests were alike but for the secret.
            self._identifier = (identifier + 1) & 0xFF
            keys += [("CHAP_I", str(self._identifier)), ("CHAP_C", chap.encode_binary(self._challenge))]
        return keys

    def _verify_proof(self, mine: dict[str, str]) -> None:
        credentials, algorithm = self.credentials, self._algorithm
        assert algorithm is not None  # noqa: S101 - set by the step before
        name = mine["CHAP_N"]
        if credentials.reverse_name and not chap.verify(credentials.reverse_name.encode(), name.encode()):
            raise self._refused(
                f"the target calls itself {shown(name)} in CHAP, expected {shown(credentials.reverse_name)}",
                "compare the reverse CHAP name on both sides",
            )
        if not credentials.reverse_name and name == credentials.name:
            raise self._refused(
                "the target sent our own CHAP name back", "set a CHAP name for the target's direction"
            )
        received = chap.decode_binary("CHAP_R", mine["CHAP_R"])
        expected = chap.respond(
            algorithm, self._identifier, credentials.reverse_secret.reveal(), self._challenge
        )
        is_ours = chap.verify(self._our_response, received)
        if is_ours or not chap.verify(expected, received):
            raise self._refused(
                "the target's proof is wrong: it does not know the reverse CHAP secret",
                "compare the reverse CHAP secret on both sides; if it is the same, another machine answers",
            )

    def _downgraded(self, came: str) -> SessionError:
        return self._refused(
            f"CHAP was asked for, the target answers {came}",
            "switch CHAP on at the target, or take the CHAP name out of the configuration",
        )

    def _refused(self, why: str, hint: str) -> SessionError:
        return SessionError(f"{self.doing} refused: {why}", hint, ExitStatus.NOT_PERMITTED)


def _is_answer(value: str) -> bool:
    return value in (NOT_UNDERSTOOD, REJECT, "Irrelevant")
