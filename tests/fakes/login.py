"""The target's side of a login: keys in, keys out. No I/O."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from isboot.session import chap, keys
from isboot.session.pdu import LoginRequest, LoginResponse


@dataclass
class Account:
    """CHAP at the target: what it asks for, and what it proves itself with."""

    name: str
    secret: bytes
    reverse_name: str = ""
    reverse_secret: bytes = b""
    algorithms: tuple[int, ...] = (8, 7, 6, 5)
    is_base64: bool = False
    challenge: bytes = b""  #: the same each time; empty: a new one
    identifier: int | None = None  #: likewise


@dataclass
class Limits:
    """What the target offers: the numbers of its side of the negotiation."""

    max_recv_data_segment_length: int = 65536
    max_burst_length: int = 262144
    first_burst_length: int = 65536
    initial_r2t: bool = False
    immediate_data: bool = True
    max_outstanding_r2t: int = 1
    allows_digests: bool = True
    prefers_digests: bool = False
    segment_bytes: int = 8192  #: of a Login Response: small values force the C bit
    forgets_transit: bool = False  #: after a split answer the end of the stage has to be asked for again


@dataclass
class LoginSide:
    """One login. receive() gives the response; `is_over` says that the full feature phase is reached."""

    limits: Limits
    account: Account | None
    tsih: int = 1
    known_targets: tuple[str, ...] = ()
    said: dict[str, str] = field(default_factory=dict)  #: all the initiator said
    values: dict[str, str] = field(default_factory=dict)  #: results of the operational keys
    is_over: bool = False
    is_authenticated: bool = False
    _incoming: bytes = b""
    _outgoing: bytes = b""
    _transit: bool = False
    _first: bool = True
    _algorithm: int = 0
    _identifier: int = 0
    _challenge: bytes = b""

    def receive(self, request: LoginRequest) -> LoginResponse:
        if request.is_continued:
            self._incoming += request.data
            return self._respond(request)
        if self._outgoing:  # the rest of a split answer was asked for
            return self._drain(request)
        text, self._incoming = self._incoming + request.data, b""
        pairs = dict(keys.decode_text(text))
        self.said |= pairs
        if self._first and (refusal := self._check_names()):
            return self._respond(request, status=refusal)
        if request.current_stage == 0:
            replies, self._transit, failed = self._security(pairs, request.transit)
            if failed:
                return self._respond(request, status=(2, 1))
        else:
            if self.account is not None and not self.is_authenticated:
                return self._respond(request, status=(2, 1))
            replies, self._transit = self._operational(pairs), request.transit
        if self._first:
            replies.insert(0, ("TargetPortalGroupTag", "1"))
            self._first = False
        self._outgoing = keys.encode_text(replies)
        return self._drain(request)

    def _check_names(self) -> tuple[int, int] | None:
        if "InitiatorName" not in self.said:
            return (2, 7)
        if self.said.get("SessionType") == "Discovery":
            return None
        return None if self.said.get("TargetName") in self.known_targets else (2, 3)

    def _drain(self, request: LoginRequest) -> LoginResponse:
        size = self.limits.segment_bytes
        data, self._outgoing = self._outgoing[:size], self._outgoing[size:]
        if self._outgoing:
            if self.limits.forgets_transit:
                self._transit = False
            return self._respond(request, data, is_continued=True)
        if self._transit and request.current_stage == 1:
            self.is_over = True
        return self._respond(request, data, transit=self._transit)

    def _respond(
        self, request: LoginRequest, data: bytes = b"", *, transit: bool = False, is_continued: bool = False,
        status: tuple[int, int] = (0, 0),
    ) -> LoginResponse:  # fmt: skip
        following = request.next_stage or (1 if request.current_stage == 0 else 3)
        return LoginResponse(
            transit=transit, is_continued=is_continued, current_stage=request.current_stage,
            next_stage=following if transit else 0, isid=request.isid,
            tsih=self.tsih if transit and request.current_stage == 1 else 0,
            initiator_task_tag=request.initiator_task_tag, status_class=status[0], status_detail=status[1],
            data=data,
        )  # fmt: skip

    # --- security ---

    def _security(self, pairs: dict[str, str], transit: bool) -> tuple[list[tuple[str, str]], bool, bool]:
        """Give replies, whether the stage ends, and whether authentication failed."""
        if self.account is None:
            return ([("AuthMethod", "None")] if "AuthMethod" in pairs else []), transit, False
        if "AuthMethod" in pairs:
            wanted = "CHAP" in pairs["AuthMethod"].split(",")
            return [("AuthMethod", "CHAP")], False, not wanted
        if "CHAP_A" in pairs:
            offered = [int(number) for number in pairs["CHAP_A"].split(",")]
            common = [number for number in offered if number in self.account.algorithms]
            if not common:
                return [], False, True
            self._algorithm = common[0]
            fixed = self.account.identifier
            self._identifier = secrets.randbelow(256) if fixed is None else fixed
            self._challenge = self.account.challenge or secrets.token_bytes(24)
            return [("CHAP_A", str(common[0])), ("CHAP_I", str(self._identifier)),
                    ("CHAP_C", self._binary(self._challenge))], False, False  # fmt: skip
        if "CHAP_R" in pairs:
            algorithm = chap.BY_NUMBER[self._algorithm]
            expected = chap.respond(algorithm, self._identifier, self.account.secret, self._challenge)
            if (
                pairs.get("CHAP_N") != self.account.name
                or chap.decode_binary("CHAP_R", pairs["CHAP_R"]) != expected
            ):
                return [], False, True
            self.is_authenticated = True
            if "CHAP_C" not in pairs:
                return [], transit, False
            challenge = chap.decode_binary("CHAP_C", pairs["CHAP_C"])
            proof = chap.respond(algorithm, int(pairs["CHAP_I"]), self.account.reverse_secret, challenge)
            return [("CHAP_N", self.account.reverse_name), ("CHAP_R", self._binary(proof))], transit, False
        return [], transit, transit and not self.is_authenticated

    def _binary(self, value: bytes) -> str:
        import base64

        return (
            "0b" + base64.b64encode(value).decode()
            if self.account and self.account.is_base64
            else "0x" + value.hex()
        )

    # --- operational ---

    def _operational(self, pairs: dict[str, str]) -> list[tuple[str, str]]:
        limits, replies = self.limits, []
        ours = {
            "MaxBurstLength": limits.max_burst_length,
            "FirstBurstLength": limits.first_burst_length,
            "MaxOutstandingR2T": limits.max_outstanding_r2t,
            "MaxConnections": 1, "ErrorRecoveryLevel": 0, "DefaultTime2Retain": 20,
        }  # fmt: skip
        for name, value in pairs.items():
            answer: str | None
            if name in ours:
                answer = str(min(ours[name], int(value)))
            elif name == "DefaultTime2Wait":
                answer = str(max(2, int(value)))
            elif name in ("HeaderDigest", "DataDigest"):
                legal = ("CRC32C", "None") if limits.allows_digests else ("None",)
                legal = ("CRC32C",) if limits.prefers_digests else legal
                answer = next((choice for choice in value.split(",") if choice in legal), "Reject")
            elif name == "InitialR2T":
                answer = "Yes" if limits.initial_r2t or value == "Yes" else "No"
            elif name == "ImmediateData":
                answer = "Yes" if limits.immediate_data and value == "Yes" else "No"
            elif name in ("DataPDUInOrder", "DataSequenceInOrder"):
                answer = "Yes"
            elif name == "MaxRecvDataSegmentLength":
                self.values[name] = value
                replies.append((name, str(limits.max_recv_data_segment_length)))
                continue
            elif name in ("InitiatorName", "TargetName", "SessionType", "InitiatorAlias"):
                continue
            else:
                answer = "NotUnderstood"
            self.values[name] = answer
            replies.append((name, answer))
        return replies
