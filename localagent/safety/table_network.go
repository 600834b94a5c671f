package safety

func networkEntries() []Entry {
	return []Entry{
		{Kind: KindNetwork, Name: "loopback", Why: "services of the machine talk to each other over it", Narrow: "127.0.0.0/8 and ::1"},
		{Kind: KindNetwork, Name: "own address", Why: "the machine would block itself", Narrow: "every address of its interfaces"},
		{Kind: KindNetwork, Name: "gateway", Why: "nothing else is reachable without it", Narrow: "next hops of all routing tables"},
		{Kind: KindNetwork, Name: "name server", Why: "servers known by name could not be found", Narrow: "the servers in use, and those a stub on the machine asks"},
		{Kind: KindNetwork, Name: "bridge lifeline", Why: "orders and releases come over it", Narrow: "KSC, Redis and the allow list of the settings"},
		{Kind: KindNetwork, Name: "cloud metadata", Why: "a cloud machine gets its identity and network from it", Narrow: "169.254.169.254, 168.63.129.16, fd00:ec2::254"},
		{Kind: KindNetwork, Name: "wide prefix", Why: "too many machines stand behind it", Narrow: "shorter than /24 or /64"},
		{Kind: KindNetwork, Name: "no single machine", Why: "it is the address of nobody", Narrow: "unspecified, multicast and broadcast addresses"},
	}
}
