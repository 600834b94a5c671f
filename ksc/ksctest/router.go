package ksctest

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const (
	apiPrefix = "/api/v1.0/"
	// headerSession is the canonical form of X-KSC-Session.
	headerSession = "X-Ksc-Session"
	typeJSON      = "application/json"
	typeText      = "text/plain"
)

// access says which callers a method takes.
type access int

const (
	needLogin   access = iota // an authenticated session or connection
	needSession               // also one that still owes its second factor
	open                      // anybody: the method authenticates by itself
)

// route is one remote method.
type route struct {
	name   string
	access access
	run    func(*Server, *call) error
	calls  atomic.Int64
}

func newRoutes() map[string]*route {
	routes := make(map[string]*route)
	add := func(name string, access access, run func(*Server, *call) error) {
		routes[name] = &route{name: name, access: access, run: run}
	}
	add("login", open, (*Server).login)
	add("Session.StartSession", open, (*Server).startSession)
	add("Session.EndSession", needSession, (*Server).closeSession)
	for name, run := range map[string]func(*Server, *call) error{
		"Session.Ping":                           (*Server).ping,
		"Session.CreateToken":                    (*Server).createToken,
		"HostGroup.AddIncident":                  (*Server).addIncident,
		"HostGroup.UpdateIncident":               (*Server).updateIncident,
		"HostGroup.DeleteIncident":               (*Server).deleteIncident,
		"HostGroup.FindIncidents":                (*Server).findIncidents,
		"HostGroup.FindHosts":                    (*Server).findHosts,
		"HostGroup.GetHostInfo":                  (*Server).getHostInfo,
		"HostGroup.GetHostTasks":                 (*Server).getHostTasks,
		"HostGroup.GetGroupInfo":                 (*Server).getGroupInfo,
		"HostGroup.GetGroupInfoEx":               (*Server).getGroupInfoEx,
		"HostGroup.GroupIdGroups":                (*Server).groupIDGroups,
		"HostGroup.GroupIdUnassigned":            (*Server).groupIDUnassigned,
		"ChunkAccessor.GetItemsCount":            (*Server).getItemsCount,
		"ChunkAccessor.GetItemsChunk":            (*Server).getItemsChunk,
		"ChunkAccessor.Release":                  (*Server).releaseChunk,
		"Tasks.GetAllTasksOfHost":                (*Server).getAllTasksOfHost,
		"Tasks.GetTask":                          (*Server).getTask,
		"Tasks.GetTaskData":                      (*Server).getTask,
		"Tasks.DeleteTask":                       (*Server).deleteTask,
		"Tasks.ResetTasksIterator":               (*Server).resetTasksIterator,
		"Tasks.GetNextTask":                      (*Server).getNextTask,
		"Tasks.ReleaseTasksIterator":             (*Server).releaseTasksIterator,
		"Tasks.GetTaskStatistics":                (*Server).getTaskStatistics,
		"Tasks.GetTaskStatistics2":               (*Server).getTaskStatistics,
		"Tasks.ResetHostIteratorForTaskStatusEx": (*Server).resetHostStatus,
		"Tasks.GetHostStatusRecordsCount":        (*Server).getHostStatusCount,
		"Tasks.GetHostStatusRecordRange":         (*Server).getHostStatusRange,
		"Tasks.ReleaseHostStatusIterator":        (*Server).releaseHostStatus,
		"Tasks.GetTaskHistory":                   (*Server).getTaskHistory,
		"EventProcessing.GetRecordCount":         (*Server).getEventCount,
		"EventProcessing.GetRecordRange":         (*Server).getEventRange,
		"EventProcessing.ReleaseIterator":        (*Server).releaseEvents,
		"HostTasks.ResetTasksIterator":           (*Server).resetHostTasks,
		"HostTasks.GetNextTask":                  (*Server).getNextHostTask,
		"HostTasks.GetTaskData":                  (*Server).getHostTaskData,
		"ConEvents.IsAnyServiceConsoleAvailable": (*Server).isConsoleAvailable,
		"ConEvents.IsServiceConsoleAvailable":    (*Server).isConsoleAvailable,
		"ConEvents.Subscribe":                    (*Server).subscribe,
		"ConEvents.UnSubscribe":                  (*Server).unsubscribe,
		"ConEvents.Retrieve":                     (*Server).retrieve,
	} {
		add(name, needLogin, run)
	}
	return routes
}

// ServeHTTP answers one request. The http package calls it; one connection never has two at once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.count.enter()
	defer s.count.leave()
	c, ok := s.calls.Get().(*call)
	if !ok {
		c = new(call)
	}
	defer s.recycle(c)
	c.request = r
	c.conn, _ = r.Context().Value(connKey{}).(*conn)
	a := s.receive(c)
	var f *Fault
	if c.route != nil {
		f = s.faults.pick(c.route.name)
	}
	patient := f == nil || f.Stored || s.pause(c, f.Delay)
	if patient && a.status == 0 && (f == nil || f.Stored || !f.Kind.replaces()) {
		if patient = s.pause(c, s.cfg.Latency); patient {
			a = s.execute(c)
		}
	}
	if patient && f != nil && f.Stored {
		patient = s.pause(c, f.Delay)
	}
	if !patient {
		s.hangUp(w, c, nil, false)
		return
	}
	if f != nil && s.spoil(w, c, f, &a) {
		return
	}
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.Debug("mock ksc answered", "path", r.URL.Path, "status", a.status)
	}
	s.write(w, &a, wantsGzip(r))
}

// receive finds the route and reads the body. A status in the answer means the request ends here.
func (s *Server) receive(c *call) answer {
	r := c.request
	name, ok := strings.CutPrefix(r.URL.Path, apiPrefix)
	if ok {
		c.route = s.routes[name]
		if _, method, _ := strings.Cut(name, "."); c.route == nil && strings.Contains(method, ".") {
			c.route = s.routes[method] // Instance.Class.Method
		}
	}
	if c.route == nil {
		s.count.unknown.Add(1)
		return text(http.StatusNotFound, "Not found\n")
	}
	c.route.calls.Add(1)
	if r.Method != http.MethodPost {
		a := text(http.StatusMethodNotAllowed, "Use POST\n")
		a.header = http.Header{"Allow": {http.MethodPost}}
		return a
	}
	if !acceptable(r.Header["Content-Type"]) {
		return text(http.StatusUnsupportedMediaType, "Content-Type must be application/json\n")
	}
	if status := c.readBody(); status != 0 {
		return text(status, http.StatusText(status)+"\n")
	}
	return answer{}
}

// execute carries the request out.
func (s *Server) execute(c *call) answer {
	err := s.admitCaller(c)
	if err == nil {
		err = s.parse(c)
	}
	if err == nil {
		err = c.route.run(s, c)
	}
	if err == nil {
		if len(c.out) == 0 {
			c.out = append(c.out, "{}"...)
		}
		return answer{status: http.StatusOK, contentType: typeJSON, body: c.out}
	}
	if pxg, ok := errors.AsType[*pxgError](err); ok {
		c.out = pxg.appendTo(c.out[:0])
		return answer{status: http.StatusOK, contentType: typeJSON, body: c.out}
	}
	if bad, ok := errors.AsType[*httpError](err); ok {
		a := text(bad.status, bad.text)
		a.header = bad.header
		return a
	}
	return text(http.StatusInternalServerError, "Internal error\n")
}

func (s *Server) admitCaller(c *call) error {
	if c.route.access == open {
		return nil
	}
	sess, err := s.resolve(c)
	if err != nil {
		return err
	}
	if sess.pending.Load() && c.route.access != needSession {
		return unfinished(sess)
	}
	c.session = sess
	return nil
}

func (s *Server) parse(c *call) error {
	if len(c.room.body) == 0 {
		return nil
	}
	ok := json.Valid(c.room.body)
	if ok {
		c.args, ok = parseArgs(c.room.args[:0], c.room.body)
	}
	if !ok {
		return &httpError{status: http.StatusBadRequest, text: "Body is no JSON object\n"}
	}
	return nil
}

// pause waits d; it is false when the client left or the server closes.
func (s *Server) pause(c *call, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.request.Context().Done():
		return false
	}
}

// acceptable reports whether a Content-Type is missing or application/json.
func acceptable(values []string) bool {
	if len(values) == 0 || values[0] == typeJSON {
		return true
	}
	kind, _, _ := strings.Cut(values[0], ";")
	return strings.EqualFold(strings.TrimSpace(kind), typeJSON)
}
