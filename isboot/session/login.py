"""
The login phase as a state machine that does no I/O: a response goes in, the next request comes out.

    SecurityNegotiation -> LoginOperationalNegotiation -> FullFeaturePhase        RFC 7143 §6.3

A negotiation text longer than one PDU is split on the way out and put together on the way in (C bit, §6.2);
while a text is split, each PDU but the last is answered by an empty one.

What a target does that the standard forbids, but that leaves no doubt, is a warning of the outcome: a machine
must boot from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from isboot.errors import ExitStatus, SessionError
from isboot.session import chap, keys, status
from isboot.session.authenticate import Authenticator, answers_to_strays
from isboot.session.keys import Result, shown
from isboot.session.pdu import LoginRequest, LoginResponse, ProtocolError
from isboot.values import Credentials, Policy

SECURITY = 0
OPERATIONAL = 1
FULL_FEATURE = 3
STAGE_NAMES = {0: "SecurityNegotiation", 1: "LoginOperationalNegotiation", 3: "FullFeaturePhase"}

#: A request carries no more text than this: the default MaxRecvDataSegmentLength holds until the login is
#: over (RFC 7143 §13.12).
MAX_SEGMENT_BYTES = 8192
MAX_ROUNDS = 64
#: What a target may say of itself that needs no answer and changes nothing here (RFC 7143 §13).
_DECLARED_BY_TARGET = ("TargetAlias", "TargetAddress", "TargetPortalGroupTag", "TargetName")
#: What only we may declare: an echo is no offer, and needs no answer.
_DECLARED_BY_US = ("InitiatorName", "InitiatorAlias", "SessionType")


@dataclass(frozen=True, slots=True)
class LoginParameters:
    """
    :param target_name: "" for a discovery session
    :param doing: "login to NAME at PORTAL", the start of every message
    :param offers: operational keys in the order they are offered
    :param required: keys whose result must be what was offered: digests the policy asks for
    :param auth_required: with credentials, AuthMethod=None is refused
    """

    initiator_name: str
    target_name: str
    isid: bytes
    doing: str
    credentials: Credentials | None
    offers: Mapping[str, str]
    required: frozenset[str] = frozenset()
    algorithms: tuple[chap.Algorithm, ...] = chap.ALGORITHMS
    auth_required: bool = True
    takes_short_secrets: bool = True
    cid: int = 1
    cmd_sn: int = 1
    max_segment_bytes: int = MAX_SEGMENT_BYTES

    @property
    def is_discovery(self) -> bool:
        return not self.target_name


@dataclass(frozen=True, slots=True)
class LoginOutcome:
    """
    :param values: every operational key of the table -> bool, int or str
    :param exp_stat_sn: the StatSN due next
    """

    tsih: int
    target_portal_group_tag: int
    values: Mapping[str, Any]
    cmd_sn: int
    exp_stat_sn: int
    max_cmd_sn: int
    warnings: tuple[str, ...] = ()  #: what the target does against the standard, a line each


def offers_of(policy: Policy, *, is_discovery: bool = False) -> dict[str, str]:
    """Give the keys we offer: the table's, with what the policy decides; one whole I/O fits a segment."""
    offers = {
        key.name: key.ours
        for key in keys.OPERATIONAL
        if key.ours is not None and (key.is_for_discovery or not is_discovery)
    }
    if is_discovery:
        return offers
    for name in ("MaxRecvDataSegmentLength", "MaxBurstLength"):
        offers[name] = str(min(max(int(offers[name]), policy.max_io_bytes), keys.BY_NAME[name].high))
    if policy.max_recv_data_segment_length_bytes:
        offers["MaxRecvDataSegmentLength"] = str(policy.max_recv_data_segment_length_bytes)
    offers["InitialR2T"] = "Yes" if policy.initial_r2t else "No"
    offers["ImmediateData"] = "Yes" if policy.immediate_data else "No"
    # A digest the policy asks for is offered alone: a list with None in it invites a downgrade.  One it does
    # not ask for is there for targets that insist on it.
    for name, is_wanted in (("HeaderDigest", policy.header_digest), ("DataDigest", policy.data_digest)):
        if is_wanted:
            offers[name] = "CRC32C"
    return offers


@dataclass(slots=True)
class Login:
    """
    One login. Call first(), then next() with each response until it gives None; then `outcome` stands.

    All methods raise SessionError (LoginRefused, RedirectError, ProtocolError) when the login cannot go on.
    """

    parameters: LoginParameters
    outcome: LoginOutcome | None = None
    _stage: int = SECURITY
    _authenticator: Authenticator | None = None
    _outgoing: deque[bytes] = field(default_factory=deque)
    _asks_transit: bool = False
    _sent_transit: bool = False
    _incoming: bytearray = field(default_factory=bytearray)
    _values: dict[str, Any] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _tpgt: int = 0
    _exp_stat_sn: int | None = None  #: None before the first response, which sets it
    _rounds: int = 0
    _warnings: list[str] = field(default_factory=list)

    def first(self) -> LoginRequest:
        """Give the first request: who we are, what we want, which authentication we offer."""
        p = self.parameters
        pairs = [("InitiatorName", p.initiator_name)]
        if p.is_discovery:
            pairs.append(("SessionType", "Discovery"))
        else:
            pairs += [("TargetName", p.target_name), ("SessionType", "Normal")]
        if p.credentials is None:
            pairs.append(("AuthMethod", "None"))
        else:
            self._authenticator = Authenticator(
                p.credentials, p.algorithms, p.doing, p.auth_required, p.takes_short_secrets, self._warnings
            )
            pairs.append(("AuthMethod", self._authenticator.offer))
        return self._say(pairs, transit=p.credentials is None)

    def next(self, response: LoginResponse) -> LoginRequest | None:
        """Take a response; give the next request, or None when the full feature phase is reached."""
        self._check_header(response)
        self._incoming += response.data
        if len(self._incoming) > keys.MAX_TEXT_BYTES:
            raise ProtocolError(f"a negotiation text of more than {keys.MAX_TEXT_BYTES} bytes")
        if response.status_class != status.SUCCESS:
            is_redirection = response.status_class == status.REDIRECTION
            said = dict(keys.decode_text(bytes(self._incoming))) if is_redirection else {}
            status.raise_for_status(
                response.status_class, response.status_detail, said, self.parameters.doing
            )
        if response.is_continued:
            # The empty request that fetches the rest does not ask for the end of the stage, nor does it take
            # back that the one before did: a target may end it at once, or when asked again.
            # While our own text is split its rest comes first: an empty request without C would be its end.
            return self._flush() if self._outgoing else self._request(b"")
        pairs = keys.decode_text(bytes(self._incoming))
        self._incoming.clear()
        if self._outgoing:
            if pairs or response.transit:
                raise ProtocolError("an answer to a negotiation text that was not complete yet")
            return self._flush()
        if self._stage == SECURITY:
            replies, transit = self._take_security(pairs, response.transit)
        else:
            replies, transit = self._take_operational(pairs, response.transit)
        if not response.transit:
            return self._say(replies, transit=transit)
        if self._stage == SECURITY:
            self._stage = OPERATIONAL
            return self._say(list(self.parameters.offers.items()), transit=True)
        self._finish(response)
        return None

    @property
    def is_in_security(self) -> bool:
        """Say whether who we are is still the question."""
        return self._stage == SECURITY

    # --- requests ---

    def _say(self, pairs: list[tuple[str, str]], *, transit: bool) -> LoginRequest:
        text = keys.encode_text(pairs)
        size = self.parameters.max_segment_bytes
        self._outgoing.extend(text[i : i + size] for i in range(0, len(text), size) or (0,))
        self._asks_transit = transit
        return self._flush()

    def _flush(self) -> LoginRequest:
        segment = self._outgoing.popleft()
        is_last = not self._outgoing
        self._sent_transit = self._asks_transit and is_last
        return self._request(segment, transit=self._sent_transit, is_continued=not is_last)

    def _request(self, data: bytes, *, transit: bool = False, is_continued: bool = False) -> LoginRequest:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise ProtocolError(f"no end of the login after {MAX_ROUNDS} rounds")
        following = OPERATIONAL if self._stage == SECURITY else FULL_FEATURE
        return LoginRequest(
            transit=transit,
            is_continued=is_continued,
            current_stage=self._stage,
            next_stage=following if transit else 0,
            isid=self.parameters.isid,
            cid=self.parameters.cid,
            cmd_sn=self.parameters.cmd_sn,
            exp_stat_sn=self._exp_stat_sn or 0,
            data=data,
        )

    # --- responses ---

    def _check_header(self, response: LoginResponse) -> None:
        if response.initiator_task_tag != 0:
            raise ProtocolError(
                f"a Login Response to task {response.initiator_task_tag:#x}, which is not ours"
            )
        if response.status_class != status.SUCCESS:
            return  # the rest of the header means nothing then, RFC 7143 §11.13
        if response.isid != self.parameters.isid:
            raise ProtocolError(
                f"a Login Response with ISID {response.isid.hex()} where {self.parameters.isid.hex()} is ours"
            )
        # RFC 7143 §11.13.3: the first response sets StatSN, the next carry one more each. The kernel's and
        # iPXE's initiators take any, so nobody would have noticed a target that counts otherwise.
        if self._exp_stat_sn not in (None, response.stat_sn):
            self._warn(f"a Login Response with StatSN {response.stat_sn} where {self._exp_stat_sn} was due")
        self._exp_stat_sn = (response.stat_sn + 1) & 0xFFFFFFFF
        if response.version_active != 0:
            raise ProtocolError(f"version {response.version_active} of iSCSI chosen, though we offer 0 alone")
        if response.current_stage != self._stage:
            raise ProtocolError(
                f"a Login Response of stage {response.current_stage} during {STAGE_NAMES[self._stage]}"
            )
        if response.transit and response.is_continued:
            raise ProtocolError("a Login Response that is both continued (C) and the end of its stage (T)")
        if response.transit:
            following = OPERATIONAL if self._stage == SECURITY else FULL_FEATURE
            if not self._sent_transit:
                raise ProtocolError(f"the end of {STAGE_NAMES[self._stage]}, which we did not ask for yet")
            if response.next_stage != following:
                raise ProtocolError(
                    f"a transit to stage {response.next_stage}, though we asked for {following}"
                )

    def _warn(self, message: str) -> None:
        self._warnings.append(f"{self.parameters.doing}: {message}")

    def _take_security(
        self, pairs: list[tuple[str, str]], transit: bool
    ) -> tuple[list[tuple[str, str]], bool]:
        rest = dict(pairs)
        self._take_declared(rest)
        method = rest.pop("AuthMethod", None)
        if self._authenticator is not None:
            replies, is_over = self._authenticator.next(method, rest, transit)
            return replies, is_over
        if method not in (None, "None"):
            raise SessionError(
                f"{self.parameters.doing} refused: the target answers AuthMethod={shown(method or '')}",
                hint="the target asks for CHAP: give a CHAP name and secret",
                exit_status=ExitStatus.NOT_PERMITTED,
            )
        return answers_to_strays(rest), True

    def _take_declared(self, rest: dict[str, str]) -> None:
        for name in _DECLARED_BY_TARGET:
            value = rest.pop(name, None)
            if name == "TargetPortalGroupTag" and value is not None:
                self._tpgt = keys.parse_number(name, value, 0, 65535)
        for name in _DECLARED_BY_US:
            rest.pop(name, None)

    def _take_operational(
        self, pairs: list[tuple[str, str]], transit: bool
    ) -> tuple[list[tuple[str, str]], bool]:
        rest = dict(pairs)
        self._take_declared(rest)
        replies: list[tuple[str, str]] = []
        for name, value in rest.items():
            key = keys.BY_NAME.get(name)
            if key is None:
                if name == "AuthMethod" or name.startswith("CHAP_"):
                    raise ProtocolError(f"{name}={shown(value)} after the security stage")
                if value not in keys.ANSWERS_WITHOUT_VALUE:
                    replies.append((name, keys.OBSOLETE.get(name, keys.NOT_UNDERSTOOD)))
                continue
            if name in self._settled:
                raise ProtocolError(f"{name}={shown(value)}, a second negotiation of that key")
            self._settled.add(name)
            offered = self.parameters.offers.get(name)
            if offered is not None:
                self._check_required(name, value)
                self._values[name], warning = keys.conclude(key, offered, value)
                if warning:
                    self._warn(warning)
                continue
            if self.parameters.is_discovery and not key.is_for_discovery:
                replies.append((name, keys.IRRELEVANT))
                continue
            answer, result = keys.respond(key, value)
            if result is not None:
                self._values[name] = result
            if answer is not None:
                if transit and answer != value:
                    raise ProtocolError(
                        f"{name}={shown(value)} in the last PDU of the login, too late to answer"
                    )
                replies.append((name, answer))
        return replies, True

    def _check_required(self, name: str, answer: str) -> None:
        if name in self.parameters.required and answer != self.parameters.offers[name]:
            raise SessionError(
                f"{self.parameters.doing}: {name}={self.parameters.offers[name]} was asked for,"
                f" the target answers {shown(answer)}",
                hint=f"switch {name} on at the target, or do not ask for it",
                exit_status=ExitStatus.UNAVAILABLE,
            )

    def _finish(self, response: LoginResponse) -> None:
        if response.tsih == 0:
            raise ProtocolError("the end of the login without a session identifying handle (TSIH 0)")
        values = dict(self._values)
        for key in keys.OPERATIONAL:
            if key.name not in values:
                offered = self.parameters.offers.get(key.name)
                if offered is not None:
                    self._check_required(key.name, "nothing")
                values[key.name] = _unanswered(key, offered)
        # RFC 7143 §13.14: FirstBurstLength MUST NOT exceed MaxBurstLength.
        values["FirstBurstLength"] = min(values["FirstBurstLength"], values["MaxBurstLength"])
        self.outcome = LoginOutcome(
            tsih=response.tsih,
            target_portal_group_tag=self._tpgt,
            values=values,
            cmd_sn=self.parameters.cmd_sn,
            exp_stat_sn=self._exp_stat_sn or 0,
            max_cmd_sn=response.max_cmd_sn,
            warnings=tuple(self._warnings),
        )


def _unanswered(key: keys.Key, offered: str | None) -> Any:
    # RFC 7143 §6.2.2: where our word alone decides, no answer is due.
    if (key.result is Result.OR and offered == "Yes") or (key.result is Result.AND and offered == "No"):
        return keys.parse(key, offered)
    return keys.parse(key, key.default)
