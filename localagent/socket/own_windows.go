package socket

// ownUID is nobody: there are no such numbers here.
func ownUID() int { return -1 }
