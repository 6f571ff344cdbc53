"""What the commands around renewals do."""

from __future__ import annotations

import argparse
import json
import sys
import time

from licd.license.document import REFUSAL, UNCHANGED
from licd.license.renewal import verify_renewal_request
from licd_vendor import alarms, filing, output, renewing, show
from licd_vendor import usage as usages
from licd_vendor.carried import Carried
from licd_vendor.desk import DONE, check_output, notes, open_store, own_key, own_profile, print_table
from licd_vendor.show import counted


def renew(arguments: argparse.Namespace) -> int:
    check_output(arguments, "the renewal request")
    carried = Carried(arguments.dir)
    profile = carried.profile()
    request = verify_renewal_request(show.read_document(arguments.request))
    key = own_key(arguments)
    with open_store(arguments, profile) as session:
        outcome = renewing.renew(
            session,
            profile,
            key,
            request,
            now=time.time(),
            rehost=arguments.rehost,
            weak=arguments.weak,
            many=arguments.many,
        )
    if outcome.alarm:
        print(f"note: {outcome.alarm}; see licd-vendor alarm list", file=sys.stderr)
    answer = outcome.answer()
    hint = "Nothing is lost: run it again with the same request, and the answer is the same."
    output.write(arguments.output, carried.behind(answer.data), hint)
    _tell(arguments.output, answer)
    return DONE


def _tell(place: output.Place, answer: renewing.Answer) -> None:
    words = output.words(place)
    name, device = output.name(place), f"device {answer.device}"
    if answer.kind == REFUSAL:
        print(f"{name}: REFUSED for {device}: {answer.reason}", file=words)
        print(f"its licenses count through {answer.stops}, once the device has this answer", file=words)
        return
    if answer.kind == UNCHANGED:
        print(f"{name}: unchanged, seq {answer.seq}, {device}", file=words)
    else:
        print(f"{name}: seq {answer.seq}, {counted(answer.licenses, 'license')}, {device}", file=words)
    for note in notes(answer):
        print(note, file=words)


def alarm_list(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        rows = alarms.list_alarms(session, closed=arguments.all)
    if arguments.json:
        print(json.dumps({"alarms": rows}, indent=2))
        return DONE
    for row in rows:
        held = filing.numbered(row["orders"])
        state = f", closed on {row['closed'][:10]}" if row["closed"] else ""
        print(f"alarm {row['alarm']}: device {row['device']} of the customer {row['customer']}, {held}{state}")
        print(f"      {row['what']}")
        again = f"; {row['times']} times, last {row['last']}" if row["times"] > 1 else ""
        print(f"      first {row['before']}, then {row['at']}{again}")
        if row["later_seq"] is not None:
            print(f"      hardware that differs: {', '.join(row['differs']) or 'none'}")
        if not row["closed"]:
            print(f"      {row['next']}")
    if not rows:
        print("no alarm" if arguments.all else "no alarm is open")
    return DONE


def alarm_close(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        alarm = alarms.close(session, arguments.alarm, time.time())
        number, closed = alarm.id, str(alarm.closed)
    print(f"alarm {number}: closed on {closed[:10]}")
    return DONE


def usage(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        rows = usages.list_usage(session, arguments.customer, time.time())
    if arguments.json:
        print(json.dumps({"usage": rows}, indent=2))
        return DONE
    table = [("CUSTOMER", "DEVICE", "LICENSE", "FROM", "UNTIL", "DAYS", "MEAN", "PEAK", "SEATS")]
    for row in rows:
        days = row["days"]
        mean = f"{sum(days.values()) / len(days):.1f}"
        first, last = min(days), max(days)
        seats = "-" if row["seats"] is None else str(row["seats"])
        place = (row["customer"], str(row["device"]), row["license"])
        table.append((*place, first, last, str(len(days)), mean, str(row["peak"]), seats))
    print_table(table)
    return DONE
