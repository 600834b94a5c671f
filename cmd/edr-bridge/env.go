package main

import "os"

// environ reads one environment variable; it is the only place that does.
func environ(name string) (string, bool) { return os.LookupEnv(name) }
