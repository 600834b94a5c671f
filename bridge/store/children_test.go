package store

func crashChild(string) {}
func coldChild(string)  {}
