//go:build !linux

package localagent

// wakeForgotten has nothing to find: nothing is stopped here before it is ended.
func (a *Agent) wakeForgotten() {}

func (p *pinned) letGo() {}
