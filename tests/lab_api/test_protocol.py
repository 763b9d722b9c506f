# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing on, sessions, versions, parameters, searches, faults: what every request has in common."""

import json
import time
import uuid
from urllib.parse import quote, urlencode

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.lab_api.support import Answer, Client, Rest, connect
from tests.lab_support import RunningLab

pytestmark = pytest.mark.lab
SSO = "/ovirt-engine/sso/oauth/token"


def sign_on(rest: Rest, lab: RunningLab, password: str) -> Answer:
    form = {
        "grant_type": "password",
        "scope": "ovirt-app-api",
        "username": lab.username,
        "password": password,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return rest.call("POST", "", urlencode(form), headers, auth=False, url=lab.engine_url + SSO)


def names(answer: Answer) -> list[str | None]:
    return [element.findtext("name") for element in answer.xml]


def test_token_opens_the_api_until_it_is_logged_out(api_lab: RunningLab, rest: Rest) -> None:
    answer = sign_on(rest, api_lab, api_lab.password)
    token = json.loads(answer.body)
    assert answer.status == 200
    assert (token["token_type"], token["scope"]) == ("bearer", "ovirt-app-api")
    assert isinstance(token["exp"], str)
    bearer = {"Authorization": f"Bearer {token['access_token']}"}
    assert rest.call("GET", "", headers=bearer, auth=False).status == 200
    form = urlencode({"scope": "ovirt-app-api", "token": token["access_token"]})
    logout = api_lab.engine_url + "/ovirt-engine/services/sso-logout"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert json.loads(rest.call("POST", "", form, headers, auth=False, url=logout).body) == {}
    assert rest.call("GET", "", headers=bearer, auth=False).status == 401


def test_wrong_password_is_told_in_the_words_of_the_engine(api_lab: RunningLab, rest: Rest) -> None:
    answer = sign_on(rest, api_lab, "wrong")
    assert answer.status == 400
    error = json.loads(answer.body)
    assert error["error_code"] == "access_denied"
    assert error["error"].startswith("Cannot authenticate user 'admin@internal': ")
    with connect(api_lab, "wrong") as connection, pytest.raises(sdk.AuthError, match="access_denied"):
        connection.test(raise_exception=True)


def test_request_without_credentials_is_challenged(rest: Rest) -> None:
    answer = rest.call("GET", "/vms", auth=False)
    assert answer.status == 401
    assert "ENGINE" in answer.headers["WWW-Authenticate"]
    wrong = rest.call("GET", "/vms", headers={"Authorization": "Basic !!!"}, auth=False)
    assert wrong.status == 401


def test_persistent_basic_session_lives_by_its_cookie(rest: Rest) -> None:
    first = rest.get("", Prefer="persistent-auth")
    cookie = first.headers["Set-Cookie"].split(";")[0]
    again = rest.call("GET", "", headers={"Cookie": cookie, "Prefer": "persistent-auth"}, auth=False)
    assert again.status == 200
    assert rest.call("GET", "", headers={"Cookie": cookie}, auth=False).status == 401


def test_session_with_csrf_protection_wants_its_header(rest: Rest) -> None:
    first = rest.get("", Prefer="persistent-auth, csrf-protection")
    cookie = first.headers["Set-Cookie"].split(";")[0]
    headers = {"Cookie": cookie, "Prefer": "persistent-auth"}
    assert rest.call("GET", "", headers=headers, auth=False).status == 401
    headers["JSESSIONID"] = cookie.partition("=")[2]
    assert rest.call("GET", "", headers=headers, auth=False).status == 200


def test_version_by_header_and_by_path(rest: Rest) -> None:
    assert rest.get("", Version="4").status == 200
    assert rest.get("", Version="3").status == 400
    assert rest.get("/v4/vms").status == 200
    assert rest.get("/v3/vms").status == 400


def test_root_tells_product_and_collections(rest: Rest) -> None:
    root = rest.get("").xml
    assert root.findtext("product_info/version/major") == "4"
    rels = {link.get("rel") for link in root.findall("link")}
    assert {"vms", "disks", "events", "jobs", "hosts", "imagetransfers", "storagedomains"} <= rels
    assert rest.call("HEAD", "").status == 200
    for rel in rels:
        assert rest.get(f"/{rel}").status == 200, rel


def test_the_authority_of_the_manager_can_be_fetched(api_lab: RunningLab, rest: Rest) -> None:
    url = api_lab.engine_url + "/ovirt-engine/services/pki-resource?resource=ca-certificate"
    answer = rest.call("GET", "", auth=False, url=url)
    assert answer.body.startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("name=web-01", ["web-01"]),
        ('name="web-01"', ["web-01"]),
        ("name=*b-01", ["web-01", "db-01"]),
        ("status=down and name=*-01", ["legacy-01", "files-01"]),
        ('status="up" and name=db-01', ["db-01"]),
        ("name=WEB-01", ["web-01"]),
        ("name=web-01 or name=db-01", ["web-01", "db-01"]),
        ("tag=office sortby name asc", ["files-01", "mail-01"]),
        ("sortby name desc page 2", ["legacy-01", "files-01"]),
        ("vm.name=mail-01", ["mail-01"]),
        ("xfs-nothing", []),
        ("database", ["db-01"]),
    ],
)
def test_search_of_vms(rest: Rest, search: str, expected: list[str]) -> None:
    size = "&max=2" if "page" in search else ""
    answer = rest.get(f"/vms?search={quote(search)}{size}")
    assert names(answer) == expected
    assert names(rest.get(f"/vms;search={quote(search)}{size.replace('&', ';')}")) == expected


def test_case_matters_only_if_asked_for(rest: Rest) -> None:
    assert names(rest.get("/vms?search=name%3DWEB-01&case_sensitive=true")) == []


def test_search_by_an_unknown_field_is_a_bad_request(rest: Rest) -> None:
    assert rest.get("/vms?search=colour%3Dred").status == 400
    assert rest.get("/vms?max=many").status == 400


def test_searches_of_the_official_clients(api_lab: RunningLab, client: Client) -> None:
    system = client.system
    (center,) = system.data_centers_service().list(search="storage.name=data-01", case_sensitive=True)
    assert system.data_centers_service().list(search='storage="data-02"')[0].id == center.id
    host = system.hosts_service().list()[0]
    hardware = host.hardware_information.uuid
    search = f"hw_id={hardware} and datacenter={center.name} and status=Up"
    assert [h.id for h in system.hosts_service().list(search=search, case_sensitive=True)] == [host.id]
    vm_id = api_lab.vm("web-01").id
    assert [v.id for v in system.vms_service().list(search=f'id="{vm_id}"')] == [vm_id]
    assert system.disks_service().list(search="disk_type=lun") == []


def test_status_of_a_storage_domain_is_told_below_its_data_center(client: Client) -> None:
    domains = client.system.storage_domains_service().list()
    assert [d.status for d in domains] == [None, None]
    assert {d.name for d in domains} == {"data-01", "data-02"}
    assert all(d.available > 0 and d.storage.type == types.StorageType.NFS for d in domains)
    centers = client.system.data_centers_service()
    attached = centers.data_center_service(centers.list()[0].id).storage_domains_service().list()
    assert {d.status for d in attached} == {types.StorageDomainStatus.ACTIVE}


def test_follow_puts_linked_objects_in_place(api_lab: RunningLab, client: Client, rest: Rest) -> None:
    vm = api_lab.vm("db-01")
    found = client.vm(vm.id).get(follow="disk_attachments.disk,nics.vnic_profile.network,cluster,tags")
    assert sorted(a.disk.name for a in found.disk_attachments) == ["db-01_data", "db-01_disk1"]
    assert found.nics[0].vnic_profile.network.name == "ovirtmgmt"
    assert found.cluster.version.minor == 6
    assert sorted(tag.name for tag in found.tags) == ["database", "production"]
    listed = client.system.vms_service().list(follow="DiskAttachments")
    assert all(v.disk_attachments for v in listed)
    assert rest.get("/vms?follow=").status == 200
    assert client.connection.follow_link(client.vm(vm.id).get().cluster).name == "Default"


def test_all_content_brings_the_ovf_by_parameter_and_by_header(api_lab: RunningLab, rest: Rest) -> None:
    path = f"/vms/{api_lab.vm('web-01').id}"
    where = "initialization/configuration/data"
    assert rest.get(path).text(where) is None
    for answer in (rest.get(f"{path}?all_content"), rest.get(path, All_Content="true")):
        assert answer.xml.findtext("initialization/configuration/type") == "ovf"
        assert "<ovf:Envelope" in (answer.text(where) or "")
    assert rest.get(f"{path}?all_content=false").text(where) is None


def test_missing_things_are_404_without_a_body(client: Client, rest: Rest) -> None:
    missing = str(uuid.uuid4())
    for path in (
        f"/vms/{missing}",
        f"/disks/{missing}",
        f"/imagetransfers/{missing}",
        "/nothing",
        "/vms/a/b/c/d",
    ):
        answer = rest.get(path)
        assert (answer.status, answer.body) == (404, b""), path
    with pytest.raises(sdk.NotFoundError):
        client.vm(missing).get()


def test_malformed_requests_are_400_with_a_fault(rest: Rest) -> None:
    bodies = ("", "<vm", "<disk/>", '<!DOCTYPE a [<!ENTITY b "c">]><vm>&b;</vm>', "\0", "<vm>" * 500)
    for body in bodies:
        answer = rest.post("/vms", body)
        assert answer.status == 400, body
        assert answer.xml.tag == "fault"
    assert rest.get("/vms/not-a-uuid").status == 400
    assert rest.post("/vms", "<vm><name>x</name></vm>").text("reason") == "Incomplete parameters"
    assert rest.call("PATCH", "/vms").status == 405


def test_correlation_id_comes_back_and_marks_events(client: Client, rest: Rest) -> None:
    answer = rest.get("/vms", Correlation_Id="my job/7")
    assert answer.headers["Correlation-Id"] == "my_job_7"
    name = f"tag-{uuid.uuid4().hex[:8]}"
    disks = client.system.disks_service()
    disk = disks.add(
        types.Disk(
            name=name,
            format=types.DiskFormat.COW,
            provisioned_size=1 << 20,
            storage_domains=[types.StorageDomain(name="data-01")],
        ),
        headers={"Correlation-Id": name},
    )
    client.wait_disk(disk.id)
    events = client.system.events_service().list(search=f"correlation_id={name}")
    assert [e.code for e in events] == [2021, 2020]
    jobs = client.system.jobs_service().list(search=f"correlation_id={name}")
    assert [j.status for j in jobs] == [types.JobStatus.FINISHED]
    steps = client.system.jobs_service().job_service(jobs[0].id).steps_service().list()
    assert {s.status for s in steps} == {types.StepStatus.FINISHED}
    disks.disk_service(disk.id).remove()


def test_events_are_newest_first_and_can_be_posted(api_lab: RunningLab, client: Client) -> None:
    events = client.system.events_service()
    vm = types.Vm(id=api_lab.vm("web-01").id)
    texts = [f"note {uuid.uuid4()}" for _ in range(3)]
    for number, text in enumerate(texts):
        events.add(
            types.Event(
                origin="portal",
                severity=types.LogSeverity.WARNING,
                custom_id=number + int(time.time()),
                description=text,
                vm=vm,
            )
        )
    listed = events.list(max=3)
    assert [e.description for e in listed] == texts[::-1]
    assert listed[0].index > listed[1].index
    assert {e.code for e in listed} == {9802}
    assert [e.id for e in events.list(from_=listed[1].index)] == [listed[0].id]
    assert [e.id for e in events.list(search=texts[0])] == [listed[2].id]
    found = events.list(search=f"type=9802 and vm.id={vm.id}")
    assert found[0].id == listed[0].id
    assert found[0].time.tzinfo is not None
    assert events.event_service(listed[0].id).get().vm.id == vm.id
