"""The security stage with CHAP, one way and mutual: keys in, keys out (RFC 7143 §12.1.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from isboot.errors import ExitStatus, SessionError
from isboot.session import chap
from isboot.session.keys import (
    ANSWERS_WITHOUT_VALUE,
    BY_NAME,
    IRRELEVANT,
    NOT_UNDERSTOOD,
    OBSOLETE,
    REJECT,
    shown,
)
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

    :param is_required: False lets the target do without, which is a warning then
    :param warnings: filled as it goes on
    :raises SessionError: at once, if the credentials cannot or must not be used
    """

    credentials: Credentials
    algorithms: tuple[chap.Algorithm, ...]
    doing: str
    is_required: bool = True
    takes_short_secrets: bool = True
    warnings: list[str] = field(default_factory=list)
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
        name_bytes = len(credentials.name.encode())
        if not 1 <= name_bytes <= chap.MAX_NAME_BYTES or "\0" in credentials.name:
            raise self._refused(
                f"the CHAP name has {name_bytes} bytes: 1 to {chap.MAX_NAME_BYTES} and no NUL are legal",
                "give the CHAP name the target knows",
            )
        secrets = [credentials.secret] + [credentials.reverse_secret] * credentials.is_mutual
        if not self.takes_short_secrets and any(
            len(secret.reveal()) < chap.MIN_SECRET_BYTES for secret in secrets
        ):
            raise self._refused(
                f"a CHAP secret is shorter than {chap.MIN_SECRET_BYTES} bytes (96 bits)",
                "set a longer one on both sides, or allow it: short_secrets=1",
            )

    @property
    def offer(self) -> str:
        """What is offered as AuthMethod."""
        # CHAP alone where it is a must: with None in the list, whoever sits between could choose it.
        return "CHAP" if self.is_required else "CHAP,None"

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
        replies = answers_to_strays({name: value for name, value in pairs.items() if name not in mine})
        self._check_order(method, mine)
        if self._step is _Step.METHOD:
            if method is None:
                return replies, False  # and no end of the stage: that was not asked for, so Login refuses it
            if method == "None" and not self.is_required:
                self.warnings.append(
                    f"{self.doing}: NOT AUTHENTICATED: the target chose AuthMethod=None though CHAP was"
                    " offered (auth_required=0 allows it)"
                )
                self._step = _Step.OVER
                return replies, True
            if method != "CHAP":
                raise self._refused(
                    f"CHAP was asked for, the target answers AuthMethod={shown(method)}",
                    "switch CHAP on at the target, or take the CHAP name out of the configuration",
                )
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
        if chap.is_repeated(challenge):
            self.warnings.append(
                f"{self.doing}: the target sent a CHAP challenge it had sent before: whoever recorded the"
                " answer can log in with it; look for an update of the target"
            )
        response = chap.respond(algorithm, identifier, self.credentials.secret.reveal(), challenge)
        self._our_response = response
        self._step = _Step.PROOF
        keys = [("CHAP_N", self.credentials.name), ("CHAP_R", chap.encode_binary(response))]
        if self.credentials.is_mutual:
            self._challenge = chap.new_challenge(algorithm)
            # Another identifier than the target's: else both digests were alike but for the secret.
            self._identifier = (identifier + 1) & 0xFF
            keys += [("CHAP_I", str(self._identifier)), ("CHAP_C", chap.encode_binary(self._challenge))]
        return keys

    def _verify_proof(self, mine: dict[str, str]) -> None:
        credentials, algorithm = self.credentials, self._algorithm
        assert algorithm is not None  # noqa: S101 - set by the step before
        name = mine["CHAP_N"]
        if not 1 <= len(name.encode()) <= chap.MAX_NAME_BYTES:
            raise ProtocolError(f"CHAP_N of {len(name.encode())} bytes, outside 1..{chap.MAX_NAME_BYTES}")
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
        if len(received) != algorithm.digest_bytes:
            raise self._refused(
                f"the target's proof has {len(received)} bytes, one by {algorithm.name} has"
                f" {algorithm.digest_bytes}",
                "the target's log may say more; is it this target's fault, no secret helps",
            )
        expected = chap.respond(
            algorithm, self._identifier, credentials.reverse_secret.reveal(), self._challenge
        )
        if chap.verify(self._our_response, received):
            raise self._refused(
                "the target sent our own CHAP response back",
                "something answers there that does not know the reverse CHAP secret",
            )
        if not chap.verify(expected, received):
            raise self._refused(
                "the target's proof is wrong: it does not know the reverse CHAP secret",
                "compare the reverse CHAP secret on both sides; if it is the same, another machine answers",
            )

    def _refused(self, why: str, hint: str) -> SessionError:
        return SessionError(f"{self.doing} refused: {why}", hint, ExitStatus.NOT_PERMITTED)


def answers_to_strays(pairs: dict[str, str]) -> list[tuple[str, str]]:
    """
    Give our answers to keys that have no place in the security stage.

    :source: RFC 7143 §6.2: NotUnderstood only for keys that are not known; never an answer to an answer
    """
    return [
        (name, IRRELEVANT if name in BY_NAME else OBSOLETE.get(name, NOT_UNDERSTOOD))
        for name, value in pairs.items()
        if value not in ANSWERS_WITHOUT_VALUE
    ]
