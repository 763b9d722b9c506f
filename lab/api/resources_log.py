# SPDX-License-Identifier: GPL-3.0-or-later
"""`/events` and `/jobs`."""

import xml.etree.ElementTree as ET

from lab.api.answers import created, listing, nested
from lab.api.routing import Call, Reply, Router
from lab.api.search import Fields
from lab.api.shapes_inventory import event_element, job_element, step_element
from lab.api.xmlio import choice_of, id_of, int_of, text_of
from lab.engine.events import Event
from lab.engine.faults import EntityMissing, incomplete, malformed
from lab.engine.jobs import Job
from lab.engine.state import State

# EXTERNAL_EVENT_NORMAL and its sisters (ovirt-engine AuditLogType.java).
EXTERNAL_CODES = {"normal": 9801, "warning": 9802, "error": 9803, "alert": 9804}


def register(router: Router) -> None:
    add = router.add
    add("GET", "events", list_events)
    add("POST", "events", add_event)
    add("GET", "events/{event_key}", get_event)
    add("GET", "jobs", list_jobs)
    add("GET", "jobs/{job}", get_job)
    add("GET", "jobs/{job}/steps", list_steps)
    add("GET", "jobs/{job}/steps/{step}", get_step)


def event_fields(state: State) -> Fields[Event]:
    return {
        "message": lambda event: event.description,
        "type": lambda event: event.code,
        "severity": lambda event: event.severity,
        "time": lambda event: event.time,
        "correlation_id": lambda event: event.correlation_id,
        "origin": lambda event: event.origin,
        "vm.id": lambda event: event.vm_id,
        "vm.name": lambda event: state.vms[event.vm_id].name if event.vm_id in state.vms else None,
        "event_vm": lambda event: state.vms[event.vm_id].name if event.vm_id in state.vms else None,
        "host.id": lambda event: event.host_id,
    }


async def list_events(call: Call) -> ET.Element:
    """Newest first. `from` leaves out what is not newer than an index; `max` then takes the newest."""
    core = call.manager.core
    events = core.events.newest_first()
    start = call.query.get("from", "").strip()
    if start:
        if not start.lstrip("-").isdecimal():
            raise malformed(f'For input string: "{start}"')
        events = [event for event in events if event.index > int(start)]
    return listing(call, "events", events, event_element, event_fields(core.state))


async def get_event(call: Call) -> ET.Element:
    key = call.ids["event_key"]
    event = call.manager.core.events.get(int(key)) if key.isdecimal() else None
    if event is None:
        raise EntityMissing(key)
    return event_element(event)


async def add_event(call: Call) -> Reply:
    """An event of somebody else's: `origin`, `severity`, `custom_id` and `description` are required."""
    body = call.body("event")
    severity = choice_of(body, "severity", tuple(EXTERNAL_CODES))
    origin, custom_id, text = text_of(body, "origin"), int_of(body, "custom_id"), text_of(body, "description")
    if severity is None or not origin or custom_id is None or not text:
        raise incomplete("Event", "origin, severity, customId, description")
    event = call.manager.core.events.add(
        EXTERNAL_CODES[severity],
        text,
        severity,
        origin=origin,
        custom_id=custom_id,
        vm_id=id_of(body, "vm"),
        host_id=id_of(body, "host"),
        storage_domain_id=id_of(body, "storage_domain"),
        cluster_id=id_of(body, "cluster"),
        data_center_id=id_of(body, "data_center"),
    )
    return created(call, event_element(event))


async def list_jobs(call: Call) -> ET.Element:
    fields: Fields[Job] = {
        "id": lambda job: job.id,
        "correlation_id": lambda job: job.correlation_id,
        "status": lambda job: job.status,
        "description": lambda job: job.description,
    }
    owner = call.manager.user.id
    jobs = call.manager.core.jobs.newest_first()
    return listing(call, "jobs", jobs, lambda job: job_element(job, owner), fields)


def _job(call: Call) -> Job:
    job = call.manager.core.jobs.get(call.ids["job"])
    if job is None:
        raise EntityMissing(call.ids["job"])
    return job


async def get_job(call: Call) -> ET.Element:
    return job_element(_job(call), call.manager.user.id)


async def list_steps(call: Call) -> ET.Element:
    job = _job(call)
    return nested(call, "steps", job.steps, lambda step: step_element(step, job))


async def get_step(call: Call) -> ET.Element:
    job = _job(call)
    for step in job.steps:
        if step.id == call.ids["step"]:
            return step_element(step, job)
    raise EntityMissing(call.ids["step"])
