"""Drives Kaspersky's own package against the server: vendor_flow.py URL CERTIFICATE HOST."""

import json
import sys
import time

from KlAkOAPI.AdmServer import KlAkAdmServer
from KlAkOAPI.ChunkAccessor import KlAkChunkAccessor
from KlAkOAPI.Error import KlAkError
from KlAkOAPI.HostGroup import KlAkHostGroup
from KlAkOAPI.Params import paramDateTime, paramParams
from KlAkOAPI.Session import KlAkSession
from KlAkOAPI.Tasks import KlAkTasks

url, certificate, host = sys.argv[1:4]
server = KlAkAdmServer.Create(url, "kscUser", "kscPassword", verify=certificate)
groups, chunks, tasks = KlAkHostGroup(server), KlAkChunkAccessor(server), KlAkTasks(server)

body = json.dumps({"targetHost": host, "task": "isolateHost", "params": {"action": 1},
                   "responseEventIncident": True, "responseEventIncidentArea": "Kuma"})
incident = groups.AddIncident({"KLINCDT_SEVERITY": 2, "KLINCDT_ADDED": paramDateTime("2026-11-20T17:06:56Z"),
                               "KLINCDT_BODY": body, "KLHST_WKS_HOSTNAME": host}).RetVal()
groups.UpdateIncident(incident, {"KLINCDT_IS_HANDLED": False, "KLHST_WKS_HOSTNAME": host})

found = groups.FindIncidents("(KLINCDT_IS_HANDLED=0)", ["KLINCDT_ID", "KLINCDT_ADDED", "KLINCDT_BODY"],
                             [paramParams({"Name": "KLINCDT_ID", "Asc": True})], 3600)
accessor = found.OutPar("strAccessor")
assert found.RetVal() == chunks.GetItemsCount(accessor).RetVal() == 1
item = chunks.GetItemsChunk(accessor, 0, 200).OutPar("pChunk")["KLCSP_ITERATOR_ARRAY"][0]
assert item["KLINCDT_ID"] == incident and item["KLINCDT_BODY"] == body, item
assert item["KLINCDT_ADDED"].isoformat() == "2026-11-20T17:06:56", item
chunks.Release(accessor)

hosts = groups.FindHosts('(KLHST_WKS_DN="WS-01*")', ["KLHST_WKS_HOSTNAME"], [], {}, 100)
assert hosts.RetVal() == 1

for _ in range(500):
    if len(tasks.GetAllTasksOfHost("", host).RetVal()) > 0:
        break
    time.sleep(0.01)
iterator = tasks.ResetTasksIterator(0, False, None, None, None, None, None, True).OutPar("strTaskIteratorId")
names = []
while True:
    data = tasks.GetNextTask(iterator).OutPar("pTaskData")
    if data is None or len(data) == 0:
        break
    names.append(data["TASK_INFO_PARAMS"]["DisplayName"])
    identifier = data["TASK_UNIQUE_ID"]
tasks.ReleaseTasksIterator(iterator)
assert len(names) == 1 and names[0].startswith("[Response][KUMA] isolateHost - "), names
statistics = tasks.GetTaskStatistics(identifier).RetVal()
assert sum(statistics[key] for key in ("1", "2", "4")) == 1, statistics

try:
    tasks.GetTask("nope")
    raise AssertionError("GetTask found a task that is not there")
except KlAkError as error:
    assert str(error) == "Error code %d: Task 'nope' not found" % error.code, error

groups.DeleteIncident(incident)
KlAkSession(server).Ping()
KlAkSession(server).EndSession()
server.Disconnect()
print("ok")
