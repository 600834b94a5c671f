package ksctest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// The predefined administration groups. Clients have seen 0 for the first on real servers; the other number is made up,
// and so are those of the groups below them.
const (
	managedDevices    = "Managed devices"
	unassignedDevices = "Unassigned devices"
	idManaged         = 0
	idUnassigned      = 1
	firstGroupID      = 1000
	noParent          = -1 // what a real server gives for parentId of a predefined group is told nowhere
	maxGroupName      = 100
	maxGroupInfo      = 100 // attributes GetGroupInfoEx takes
)

// group is one administration group.
type group struct {
	id, parent int
	name       string
}

// groupSchema lists the attributes of support.kaspersky.com/help/KSC/15/KSCAPI/a00005.html that the server keeps.
var groupSchema = schema{"id": {kind: kindInt}, "name": {kind: kindString}, "parentId": {kind: kindInt}}

// value returns an attribute as GetGroupInfo and GetGroupInfoEx give it out.
func (g *group) value(name string) (any, bool) {
	switch name {
	case "id":
		return g.id, true
	case "name":
		return g.name, true
	case "parentId":
		return g.parent, true
	default:
		return nil, false
	}
}

// groupTable is the tree of the administration groups.
type groupTable struct {
	// mu guards the fields below; the groups themselves never change.
	mu     sync.RWMutex
	byID   map[int]*group
	byPath map[string]int
}

func newGroupTable() *groupTable {
	return &groupTable{
		byID: map[int]*group{
			idManaged:    {idManaged, noParent, managedDevices},
			idUnassigned: {idUnassigned, noParent, unassignedDevices},
		},
		byPath: map[string]int{managedDevices: idManaged, unassignedDevices: idUnassigned},
	}
}

// idOf returns the number of the group with a path that checkGroup passed, and makes what is missing of it.
func (t *groupTable) idOf(path string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.make(path)
}

// make is idOf for a caller that holds mu.
func (t *groupTable) make(path string) int {
	if id, ok := t.byPath[path]; ok {
		return id
	}
	cut := strings.LastIndexByte(path, '/')
	g := &group{parent: t.make(path[:cut]), name: path[cut+1:]}
	g.id = firstGroupID + len(t.byID)
	t.byID[g.id], t.byPath[path] = g, g.id
	return g.id
}

func (t *groupTable) find(id int) *group {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// checkGroup reports a path that cannot be one.
func checkGroup(path string) error {
	names := strings.Split(path, "/")
	if names[0] != managedDevices && names[0] != unassignedDevices {
		return fmt.Errorf("%q begins neither with %q nor with %q", path, managedDevices, unassignedDevices)
	}
	for _, name := range names {
		if name == "" || len(name) > maxGroupName {
			return errors.New("a name between the slashes is empty or too long")
		}
	}
	return nil
}

// getGroupInfo answers all attributes of a group.
// KSC: support.kaspersky.com/help/KSC/13/KSCAPI/a00483.html (HostGroup).
func (s *Server) getGroupInfo(c *call) error {
	return s.answerGroup(c, []string{"id", "name", "parentId"})
}

// getGroupInfoEx answers the asked attributes of a group, as bare params:
//
//	{"nGroupId":1003,"pArrAttributes":["id","name","parentId"]} → {"PxgRetVal":{"id":1003,"name":"DC","parentId":1002}}
//
// KSC: support.kaspersky.com/help/KSC/16/KSCAPI/a00549.html (HostGroup).
func (s *Server) getGroupInfoEx(c *call) error {
	fields, err := c.args.fields("pArrAttributes", groupSchema)
	if err != nil {
		return err
	}
	if len(fields) > maxGroupInfo {
		return badParameter("pArrAttributes", "more than 100 attributes")
	}
	return s.answerGroup(c, fields)
}

func (s *Server) answerGroup(c *call, fields []string) error {
	id, err := c.args.integer("nGroupId")
	if err != nil {
		return err
	}
	g := s.groups.find(id)
	if g == nil {
		return notFound("Group", fmt.Sprint(id))
	}
	c.result(project(g, fields))
	return nil
}

// groupIDGroups answers the number of the predefined group "Managed devices": {} → {"PxgRetVal":0}.
func (*Server) groupIDGroups(c *call) error {
	c.result(idManaged)
	return nil
}

// groupIDUnassigned answers the number of the predefined group "Unassigned devices": {} → {"PxgRetVal":1}.
func (*Server) groupIDUnassigned(c *call) error {
	c.result(idUnassigned)
	return nil
}
