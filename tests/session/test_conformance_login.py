"""
The items of UNH-IOL's Login Phase Test Suite for iSCSI Initiators, version 3.0, a row each.

The numbers and titles are the suite's; what is done and expected follows from RFC 7143.
"""

from __future__ import annotations

from typing import Any

import pytest

from isboot.errors import ExitStatus
from isboot.session.pdu import AsyncMessage, NopIn, NopOut, Reject, ScsiResponse
from isboot.values import Policy
from tests.fakes.login import Account, Limits
from tests.session.conformance import Item, Met, answer, both, instead, run
from tests.session.sessions import INITIATOR, ISID
from tests.session.target_side import ACCOUNT, ALICE

OFFERED = 2  #: the request that follows the operational one, where the target asks for more
DIGESTS = Policy(login_timeout_ms=2000, header_digest=True, data_digest=True)
#: The target answers, but leaves the end of the stage to the next response.
NOT_YET: dict[str, Any] = {"transit": False, "next_stage": 0, "tsih": 0}


def standard(met: Met) -> None:
    first, second = met.requests
    assert (first.current_stage, first.next_stage, first.transit) == (0, 1, True)
    assert (second.current_stage, second.next_stage, second.transit) == (1, 3, True)
    (ping,) = met.target.received(NopOut)
    assert ping.cmd_sn == first.cmd_sn == second.cmd_sn  # RFC 7143 §11.12.8: logins do not count


def fields(met: Met) -> None:
    for request in met.requests:
        assert request.immediate
        assert (request.version_max, request.version_min) == (0, 0)
        assert (request.isid, request.tsih, request.cid) == (ISID, 0, 1)
        assert request.initiator_task_tag == met.requests[0].initiator_task_tag
        assert not (request.transit and request.is_continued)


def never_twice(met: Met) -> None:
    names = [name for number in range(len(met.requests)) for name in met.said(number)]
    assert len(names) == len(set(names))


def numbers(met: Met) -> None:
    assert [request.exp_stat_sn for request in met.requests] == [0, met.target.first_stat_sn + 1]


ITEMS = (
    Item("1.1", "standard login", check=standard),
    Item("2.1", "TSIH", check=lambda met: {request.tsih for request in met.requests} == {0}),
    Item("2.2", "TSIH invalid value", answer(skip=1, tsih=0), refused=r"TSIH 0"),
    Item("2.3", "TSIH in second connection",  # we never open one, and say so
         check=lambda met: met.said(1)["MaxConnections"] == "1" and len(met.target.connections) == 1),
    Item("3.1", "T bit", answer(transit=True, next_stage=1), {"account": ACCOUNT}, ALICE,
         refused="the end of SecurityNegotiation, which we did not ask for yet"),
    Item("3.1", "T bit to a stage not asked for", answer(next_stage=3), refused="a transit to stage 3"),
    Item("3.2", "T bit delay", answer(skip=1, **NOT_YET),
         check=lambda met: met.requests[OFFERED].transit and met.said(OFFERED) == {}),
    Item("4.1", "StatSN zero", target={"first_stat_sn": 0}, check=numbers),
    Item("4.2", "StatSN non-zero", target={"first_stat_sn": 0x7FFFFFFF}, check=numbers),
    Item("4.2", "StatSN that wraps", target={"first_stat_sn": 0xFFFFFFFF},
         check=lambda met: met.requests[1].exp_stat_sn == 0),
    Item("4.2", "StatSN with a gap", answer(stat_sn=99), warned="StatSN 2 where 100 was due"),
    Item("5.1", "ExpStatSN", target={"first_stat_sn": 17}, check=numbers),
    Item("6.1", "negotiate once", check=never_twice),
    Item("6.2", "negotiate once ImmediateData separate PDUs",
         both(answer("ImmediateData=Yes", skip=1, **NOT_YET), answer("ImmediateData=No", skip=1)),
         refused="ImmediateData='No', a second negotiation"),
    Item("6.3", "negotiate once ImmediateData same PDU",
         answer("ImmediateData=Yes", "ImmediateData=No", skip=1), refused="the key 'ImmediateData' twice"),
    Item("7.1", "login request", check=fields),
    Item("7.2", "list negotiation", policy=Policy(login_timeout_ms=2000, auth_required=False),
         credentials=ALICE, target={"account": ACCOUNT},
         check=lambda met: met.said(0)["AuthMethod"] == "CHAP,None" and met.said(1)["CHAP_A"] == "8,7,6,5"),
    Item("7.3", "invalid AuthMethod", answer("AuthMethod=KRB5"), {"account": ACCOUNT}, ALICE,
         refused="CHAP was asked for, the target answers AuthMethod='KRB5'",
         exit_status=ExitStatus.NOT_PERMITTED),
    Item("7.3", "invalid AuthMethod to None", answer("AuthMethod=X-magic"),
         refused="the target answers AuthMethod='X-magic'", exit_status=ExitStatus.NOT_PERMITTED),
    Item("7.4", "FirstBurstLength value too high", answer("FirstBurstLength=16777216", skip=1),
         refused="FirstBurstLength=16777216, which is outside 512..16777215"),
    Item("7.4", "FirstBurstLength above our offer", answer("FirstBurstLength=262145", skip=1),
         warned="FirstBurstLength=262145 to an offer of 262144: 262144 is used"),
    Item("7.5", "ImmediateData invalid value", answer("ImmediateData=Perhaps", skip=1),
         refused="ImmediateData='Perhaps' where Yes or No was due"),
    Item("7.6", "invalid key", answer("X-org.example.key=1", skip=1, **NOT_YET),
         check=lambda met: met.said(OFFERED) == {"X-org.example.key": "NotUnderstood"}),
    Item("7.6", "invalid key in the security stage", answer("Elephant=1", transit=False, next_stage=0),
         check=lambda met: met.said(1) == {"Elephant": "NotUnderstood"}),
    Item("8.1", "invalid PDU: NOP-In", instead(NopIn()),
         refused="a NOP-In came where a Login Response was due"),
    Item("8.1", "invalid PDU: SCSI Response", instead(ScsiResponse(), skip=1),
         refused="a SCSI Response came where a Login Response was due"),
    Item("8.1", "invalid PDU: Reject", instead(Reject(reason=9, data=bytes(48))),
         refused=r"the target rejected the Login Request: invalid PDU field \(0x09\)",
         exit_status=ExitStatus.FAILED),
    Item("8.1", "invalid PDU: a target that takes its leave", instead(AsyncMessage(event=3), skip=1),
         refused="the target is about to drop all connections of the session during the login",
         exit_status=ExitStatus.TRY_AGAIN),
    Item("8.1", "invalid PDU: another message", instead(AsyncMessage(event=0)),
         refused="an Asynchronous Message came where a Login Response was due"),
    Item("8.1", "invalid PDU: to another task", answer(initiator_task_tag=7), refused="to task 0x7"),
    Item("8.1", "invalid PDU: with another ISID", answer(isid=bytes(6)), refused="ISID 000000000000 where"),
    Item("8.1", "invalid PDU: of another version", answer(version_active=1), refused="version 1 of iSCSI"),
    Item("8.1", "invalid PDU: of another stage", answer(current_stage=1), refused="of stage 1 during"),
    Item("8.1", "invalid PDU: C and T", answer(is_continued=True), refused="both continued"),
    Item("9.1", "header and data digests offer", policy=DIGESTS,
         check=lambda met: [met.said(1)[f"{name}Digest"] for name in ("Header", "Data")] == ["CRC32C"] * 2),
    Item("9.2", "header and data digest response", answer("DataDigest=None", skip=1), policy=DIGESTS,
         refused="DataDigest=CRC32C was asked for, the target answers 'None'",
         exit_status=ExitStatus.UNAVAILABLE),
    Item("9.2", "digest that was not offered", answer("HeaderDigest=X-magic", skip=1),
         refused="HeaderDigest='X-magic', which was not among those offered"),
    Item("9.2", "digest the target insists on", target={"limits": Limits(prefers_digests=True)},
         check=lambda met: met.session.header_digest and met.session.data_digest),
    Item("9.3", "header and data digests support CRC32C", policy=DIGESTS,  # the ping goes with both
         check=lambda met: met.session.header_digest and met.session.data_digest),
    Item("10.1", "MaxConnections", answer("MaxConnections=4", skip=1),
         warned="MaxConnections=4 to an offer of 1: 1 is used"),
    Item("11.1", "initiator name target name",
         check=lambda met: (met.said(0)["InitiatorName"], met.said(0)["TargetName"])
         == (INITIATOR, met.target.name)),
    Item("12.1", "marker negotiation",
         answer("IFMarker=Yes", "OFMarker=No", "IFMarkInt=2048~8192", skip=1, **NOT_YET),
         check=lambda met: met.said(OFFERED) == {"IFMarker": "No", "OFMarker": "No", "IFMarkInt": "Reject"}),
    Item("13.1", "boolean negotiation", target={"limits": Limits(initial_r2t=True, immediate_data=False)},
         check=lambda met: (met.session.initial_r2t, met.session.immediate_data) == (True, False)),
    Item("13.2", "legal boolean negotiation", target={"limits": Limits(initial_r2t=False)},
         check=lambda met: (met.session.initial_r2t, met.session.immediate_data) == (False, True)),
    Item("13.3", "illegal boolean negotiation", answer("InitialR2T=1", skip=1),
         refused="InitialR2T='1' where Yes or No was due"),
    Item("13.3", "illegal boolean in lower case", answer("InitialR2T=yes", skip=1),
         refused="InitialR2T='yes' where Yes or No was due"),
    Item("14.1", "MaxRecvDataSegmentLength", target={"limits": Limits(max_recv_data_segment_length=512)},
         check=lambda met: (met.session.max_send_data_segment_length_bytes, met.said(1)[
             "MaxRecvDataSegmentLength"]) == (512, "262144")),
    Item("14.1", "MaxRecvDataSegmentLength not said",
         answer("MaxRecvDataSegmentLength=NotUnderstood", skip=1),
         check=lambda met: met.session.max_send_data_segment_length_bytes == 8192),
    Item("14.1", "MaxRecvDataSegmentLength too low", answer("MaxRecvDataSegmentLength=511", skip=1),
         refused="MaxRecvDataSegmentLength=511, which is outside"),
    Item("15.1", "MaxBurstLength", target={"limits": Limits(max_burst_length=65536)},
         check=lambda met: met.session.max_burst_length_bytes == 65536),
    Item("16.1", "FirstBurstLength less than MaxBurstLength",
         target={"limits": Limits(first_burst_length=4096)},
         check=lambda met: met.session.first_burst_length_bytes == 4096),
    Item("16.2", "FirstBurstLength greater than MaxBurstLength",
         target={"limits": Limits(first_burst_length=262144, max_burst_length=131072)},
         check=lambda met: met.session.first_burst_length_bytes == 131072),
    Item("16.3", "FirstBurstLength offered by DUT",
         check=lambda met: int(met.said(1)["FirstBurstLength"]) <= int(met.said(1)["MaxBurstLength"])),
    Item("17.1", "DefaultTime2Retain", check=lambda met: met.session.time2retain_s == 0),
    Item("18.1", "DefaultTime2Wait", answer("DefaultTime2Wait=7", skip=1),
         check=lambda met: met.session.time2wait_s == 7),
    Item("18.1", "DefaultTime2Wait too high", answer("DefaultTime2Wait=3601", skip=1),
         refused="DefaultTime2Wait=3601, which is outside 0..3600"),
    Item("19.1", "MaxOutstandingR2T", target={"limits": Limits(max_outstanding_r2t=8)},
         check=lambda met: met.session.max_outstanding_r2t == 1),
    Item("20.1", "ErrorRecoveryLevel", answer("ErrorRecoveryLevel=2", skip=1),
         warned="ErrorRecoveryLevel=2 to an offer of 0: 0 is used"),
    Item("21.1", "SessionType", check=lambda met: met.said(0)["SessionType"] == "Normal"),
    Item("22.1", "AuthMethod", target={"account": ACCOUNT}, credentials=ALICE,
         check=lambda met: met.said(0)["AuthMethod"] == "CHAP"),
    Item("22.1", "AuthMethod None without credentials",
         check=lambda met: met.said(0)["AuthMethod"] == "None"),
    Item("22.1", "AuthMethod refused", target={"account": Account("bob", b"another-secret")},
         refused="authentication failure", exit_status=ExitStatus.NOT_PERMITTED),
    Item("22.1", "AuthMethod CHAP though None was offered", answer("AuthMethod=CHAP", **NOT_YET),
         refused="the target answers AuthMethod='CHAP'", exit_status=ExitStatus.NOT_PERMITTED),
    Item("23.1", "TargetPortalGroupTag", answer("TargetPortalGroupTag=65535"),
         check=lambda met: met.session.target_portal_group_tag == 65535),
    Item("23.1", "TargetPortalGroupTag invalid", answer("TargetPortalGroupTag=65536"),
         refused="TargetPortalGroupTag=65536, which is outside 0..65535"),
)  # fmt: skip


@pytest.mark.parametrize("item", ITEMS, ids=str)
def test_login_item(item: Item) -> None:
    run(item)
