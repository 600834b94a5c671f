package localagent

// here is what the agent says of the task on this operating system.
func (s Support) here() string { return s.Windows }
