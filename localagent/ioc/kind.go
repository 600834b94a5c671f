package ioc

// Kind is what sort of thing a term is about: the part of its name before the first slash.
type Kind string

// The kinds this package knows terms of (github.com/mandiant/OpenIOC_1.1, iocterms.xml). Which of them can be collected
// depends on the system; Compile reports the terms of all others.
const (
	KindFile    Kind = "FileItem"
	KindProcess Kind = "ProcessItem"
	KindPort    Kind = "PortItem"
	KindDNS     Kind = "DnsEntryItem"
	KindARP     Kind = "ArpEntryItem"
	KindService Kind = "ServiceItem"
	KindUser    Kind = "UserItem"
	KindSystem  Kind = "SystemInfoItem"
	KindVolume  Kind = "VolumeItem"
)

// kinds lists the kinds in the order in which they are collected: files last, because what is known by then tells
// which files are worth hashing.
func kinds() []Kind {
	return []Kind{KindSystem, KindUser, KindVolume, KindDNS, KindARP, KindService, KindProcess, KindPort, KindFile}
}

// shape is how the values of a field are compared.
type shape uint8

const (
	text     shape = iota
	folder         // text that may end in a separator
	ending         // text that may begin with a dot
	number         // integers
	moment         // nanoseconds since 1970 UTC
	span           // nanoseconds
	address        // IP addresses
	hardware       // MAC addresses, whatever separates their bytes
	md5sum         // hex, only known once a file was read
	sha1sum
	sha256sum
)

// digest reports whether a file must be read to know the field.
func (s shape) digest() bool { return s == md5sum || s == sha1sum || s == sha256sum }

// ordered reports whether the field has greater and less.
func (s shape) ordered() bool { return s == number || s == moment || s == span }

// field is one thing known about an object.
type field struct {
	name  string
	shape shape
}

// The fields of FileItem.
const (
	fileName = iota
	fileFullPath
	fileFolder
	fileExtension
	fileSize
	fileCreated
	fileModified
	fileAccessed
	fileChanged
	fileUser
	fileUID
	fileInode
	fileMD5
	fileSHA1
	fileSHA256
)

// The fields of ProcessItem.
const (
	processName = iota
	processPath
	processArguments
	processPID
	processParent
	processUser
	processUID
	processStart
	processKernelTime
	processUserTime
)

// The fields of PortItem.
const (
	portLocalIP = iota
	portLocalPort
	portRemoteIP
	portRemotePort
	portProtocol
	portState
	portProcess
	portPID
	portPath
)

// The fields of DnsEntryItem.
const (
	dnsHost = iota
	dnsName
	dnsType
	dnsIPv4
	dnsIPv6
	dnsTarget
)

// The fields of ArpEntryItem.
const (
	arpIPv4 = iota
	arpIPv6
	arpHardware
	arpInterface
	arpCacheType
	arpRouter
)

// The fields of ServiceItem.
const (
	serviceName = iota
	serviceTitle
	serviceDescription
	servicePath
	serviceArguments
	serviceMode
	serviceStatus
	serviceType
	servicePID
	serviceUser
)

// The fields of UserItem.
const (
	userName = iota
	userFullName
	userUID
	userHome
	userGroup
	userLastLogin
	userDisabled
	userLocked
	userPassword
)

// The fields of SystemInfoItem.
const (
	systemMachine = iota
	systemHostname
	systemDomain
	systemOS
	systemProduct
	systemBuild
	systemPatch
	systemBits
	systemArch
	systemProcessor
	systemMemory
	systemFree
	systemUptime
	systemDate
	systemAdapter
	systemHardware
	systemAddress
)

// The fields of VolumeItem.
const (
	volumeName = iota
	volumeLetter
	volumeDevice
	volumeType
	volumeFilesystem
	volumeFlags
	volumeUnit
	volumeUnits
	volumeFree
	volumeMounted
)

// fields returns the fields of a kind, at the places the constants above give them; nil for an unknown kind.
func fields(k Kind) []field {
	switch k {
	case KindFile:
		return []field{
			{"FileName", text},
			{"FullPath", text},
			{"FilePath", folder},
			{"FileExtension", ending},
			{"SizeInBytes", number},
			{"Created", moment},
			{"Modified", moment},
			{"Accessed", moment},
			{"Changed", moment},
			{"Username", text},
			{"SecurityID", text},
			{"INode", number},
			{"Md5sum", md5sum},
			{"Sha1sum", sha1sum},
			{"Sha256sum", sha256sum},
		}
	case KindProcess:
		return []field{
			{"name", text},
			{"path", text},
			{"arguments", text},
			{"pid", number},
			{"parentpid", number},
			{"Username", text},
			{"SecurityID", text},
			{"startTime", moment},
			{"kernelTime", span},
			{"userTime", span},
		}
	case KindPort:
		return []field{
			{"localIP", address},
			{"localPort", number},
			{"remoteIP", address},
			{"remotePort", number},
			{"protocol", text},
			{"state", text},
			{"process", text},
			{"pid", number},
			{"path", text},
		}
	case KindDNS:
		return []field{
			{"Host", text},
			{"RecordName", text},
			{"RecordType", text},
			{"RecordData/IPv4Address", address},
			{"RecordData/IPv6Address", address},
			{"RecordData/Host", text},
		}
	case KindARP:
		return []field{
			{"IPv4Address", address},
			{"IPv6Address", address},
			{"PhysicalAddress", hardware},
			{"Interface", text},
			{"CacheType", text},
			{"IsRouter", text},
		}
	case KindService:
		return []field{
			{"name", text},
			{"descriptiveName", text},
			{"description", text},
			{"path", text},
			{"arguments", text},
			{"mode", text},
			{"status", text},
			{"type", text},
			{"pid", number},
			{"startedAs", text},
		}
	case KindUser:
		return []field{
			{"Username", text},
			{"fullname", text},
			{"SecurityID", text},
			{"homedirectory", folder},
			{"grouplist/groupname", text},
			{"LastLogin", moment},
			{"disabled", text},
			{"lockedout", text},
			{"passwordrequired", text},
		}
	case KindSystem:
		return []field{
			{"machine", text},
			{"hostname", text},
			{"domain", text},
			{"OS", text},
			{"productName", text},
			{"buildNumber", text},
			{"patchLevel", text},
			{"OSbitness", text},
			{"procType", text},
			{"processor", text},
			{"totalphysical", number},
			{"availphysical", number},
			{"uptime", span},
			{"date", moment},
			{"networkArray/networkInfo/adapter", text},
			{"networkArray/networkInfo/MAC", hardware},
			{"networkArray/networkInfo/ipArray/ipInfo/ipAddress", address},
		}
	case KindVolume:
		return []field{
			{"VolumeName", folder},
			{"DriveLetter", text},
			{"DevicePath", text},
			{"Type", text},
			{"FileSystemName", text},
			{"FileSystemFlags", text},
			{"BytesPerSector", number},
			{"TotalAllocationUnits", number},
			{"ActualAvailableAllocationUnits", number},
			{"IsMounted", text},
		}
	default:
		return nil
	}
}

// otherName turns the second name of a field, of which some are in use, into the first; both are folded.
func otherName(k Kind, name string) string {
	switch {
	case k == KindFile && name == "fileowner":
		return "username"
	case k == KindSystem && name == "mac":
		return "networkarray/networkinfo/mac"
	case k == KindSystem && name == "primaryipv4address":
		return "networkarray/networkinfo/iparray/ipinfo/ipaddress"
	default:
		return name
	}
}

// fieldOf finds a field by its name, in any case.
func fieldOf(k Kind, name string) (int, bool) {
	name = otherName(k, fold(name))
	for i, f := range fields(k) {
		if fold(f.name) == name {
			return i, true
		}
	}
	return 0, false
}
