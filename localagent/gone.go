package localagent

import "errors"

var (
	// errGone says that the process has ended and the kernel has forgotten it, or is about to.
	errGone = errors.New("the process has ended")
	// errThread says that the number names a thread and not a process.
	errThread = errors.New("the number names a thread, not a process")
	// errSealed says that the system does not let the agent look at a process or end it.
	errSealed = errors.New("the system protects the process, or the agent lacks rights: run it as root, or with CAP_SYS_PTRACE and CAP_KILL; on Windows as SYSTEM")
)
