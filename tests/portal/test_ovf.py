# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken out of a stored OVF before it is imported, and what hostile text is refused."""

import xml.etree.ElementTree as ET

import pytest

from portal.ovirt.ovf import MAX_OVF_BYTES, OvfUnusable, without_disks

pytestmark = pytest.mark.embedded

XSI = "{http://www.w3.org/2001/XMLSchema-instance}type"
# The shape that ovirt-engine's OvfVmWriter gives it, shortened.
OVF = b"""<?xml version="1.0" encoding="UTF-8"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1/"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ovf:version="4.4.0.0">
 <References>
  <File ovf:href="d1/i1" ovf:id="i1" ovf:size="10"/>
  <Nic ovf:id="n1"/>
 </References>
 <NetworkSection><Network ovf:name="ovirtmgmt"/></NetworkSection>
 <Section xsi:type="ovf:DiskSection_Type"><Info>List</Info><Disk ovf:diskId="i1" ovf:disk-alias="sys"/></Section>
 <Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type">
  <Name>web-01</Name>
  <Section ovf:id="1" xsi:type="ovf:OperatingSystemSection_Type"><Description>rhel_9x64</Description></Section>
  <Section xsi:type="ovf:VirtualHardwareSection_Type">
   <Item><rasd:ResourceType>3</rasd:ResourceType><rasd:num_of_sockets>2</rasd:num_of_sockets></Item>
   <Item><rasd:InstanceId>i1</rasd:InstanceId><rasd:ResourceType> 17 </rasd:ResourceType></Item>
   <Item><rasd:ResourceType>10</rasd:ResourceType><rasd:Name>nic1</rasd:Name><IsPlugged>true</IsPlugged></Item>
   <Item><rasd:ResourceType>10</rasd:ResourceType><rasd:Name>nic2</rasd:Name></Item>
  </Section>
  <Section xsi:type="ovf:SnapshotsSection_Type"><Snapshot ovf:id="s1"><Type>ACTIVE</Type></Snapshot></Section>
 </Content>
</ovf:Envelope>"""


def parsed(**options):
    return ET.fromstring(without_disks(OVF, **({"unplug_nics": True} | options)))


def local_names(root):
    return [element.tag.rpartition("}")[2] for element in root.iter()]


def test_disks_files_snapshots_and_disk_items_are_taken_out():
    text = without_disks(OVF, unplug_nics=True)
    names = local_names(ET.fromstring(text))
    assert not {"Disk", "File", "Snapshot"} & set(names)
    assert "i1" not in text
    assert names.count("Item") == 3


def test_everything_else_stays_with_the_types_that_the_manager_looks_for():
    root = parsed()
    assert root.tag == "{http://schemas.dmtf.org/ovf/envelope/1/}Envelope"
    kinds = [element.get(XSI) for element in root.iter() if element.get(XSI)]
    assert kinds == [
        "ovf:DiskSection_Type",
        "ovf:VirtualSystem_Type",
        "ovf:OperatingSystemSection_Type",
        "ovf:VirtualHardwareSection_Type",
    ]
    text = without_disks(OVF, unplug_nics=True)
    for declared in ("xmlns:ovf=", "xmlns:rasd=", "xmlns:xsi="):
        assert declared in text
    assert [element.text for element in root.iter() if element.tag == "Name"] == ["web-01"]


@pytest.mark.parametrize(("unplug", "expected"), [(True, ["false", "false"]), (False, ["true"])])
def test_the_network_is_unplugged_if_asked(unplug, expected):
    found = [element.text for element in parsed(unplug_nics=unplug).iter("IsPlugged")]
    assert found == expected


BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Envelope>&c;</Envelope>"""
OUTSIDE = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Envelope>&a;</Envelope>'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BOMB, "EntitiesForbidden"),
        (OUTSIDE, "EntitiesForbidden"),
        (b"<Envelope>" + b" " * MAX_OVF_BYTES + b"</Envelope>", "larger than any real one"),
        (b"<vm/>", "not an OVF envelope"),
        (b"", "not well-formed"),
        (b"<Envelope>", "not well-formed"),
        (b"\xff\xfe\x00", "not well-formed"),
        (b"<Envelope>\x00</Envelope>", "not well-formed"),
        (b'<?xml version="1.0" encoding="nonsense"?><Envelope/>', "not well-formed"),
        (b"<Envelope>" + b"<a>" * 20_000 + b"</a>" * 20_000 + b"</Envelope>", "nested deeper"),
    ],
    ids=["bomb", "file", "huge", "other", "empty", "open", "binary", "nul", "encoding", "deep"],
)
def test_hostile_text_is_refused_in_words(text, why):
    with pytest.raises(OvfUnusable, match=why) as caught:
        without_disks(text, unplug_nics=True)
    assert "Nothing was created" in caught.value.message
    assert "root:" not in str(caught.value)
