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

// fields returns the fields of a kind; nil for an unknown kind.
func fields(k Kind) []field {
	switch k {
	case KindFile:
		return []field{
			fileName: {"FileName", text}, fileFullPath: {"FullPath", text}, fileFolder: {"FilePath", folder},
			fileExtension: {"FileExtension", ending}, fileSize: {"SizeInBytes", number}, fileCreated: {"Created", moment},
			fileModified: {"Modified", moment}, fileAccessed: {"Accessed", moment}, fileChanged: {"Changed", moment},
			fileUser: {"Username", text}, fileUID: {"SecurityID", text}, fileInode: {"INode", number},
			fileMD5: {"Md5sum", md5sum}, fileSHA1: {"Sha1sum", sha1sum}, fileSHA256: {"Sha256sum", sha256sum},
		}
	case KindProcess:
		return []field{
			processName: {"name", text}, processPath: {"path", text}, processArguments: {"arguments", text},
			processPID: {"pid", number}, processParent: {"parentpid", number}, processUser: {"Username", text},
			processUID: {"SecurityID", text}, processStart: {"startTime", moment},
			processKernelTime: {"kernelTime", span}, processUserTime: {"userTime", span},
		}
	case KindPort:
		return []field{
			portLocalIP: {"localIP", address}, portLocalPort: {"localPort", number}, portRemoteIP: {"remoteIP", address},
			portRemotePort: {"remotePort", number}, portProtocol: {"protocol", text}, portState: {"state", text},
			portProcess: {"process", text}, portPID: {"pid", number}, portPath: {"path", text},
		}
	case KindDNS:
		return []field{
			dnsHost: {"Host", text}, dnsName: {"RecordName", text}, dnsType: {"RecordType", text},
			dnsIPv4: {"RecordData/IPv4Address", address}, dnsIPv6: {"RecordData/IPv6Address", address},
			dnsTarget: {"RecordData/Host", text},
		}
	case KindARP:
		return []field{
			arpIPv4: {"IPv4Address", address}, arpIPv6: {"IPv6Address", address},
			arpHardware: {"PhysicalAddress", hardware}, arpInterface: {"Interface", text},
			arpCacheType: {"CacheType", text}, arpRouter: {"IsRouter", text},
		}
	case KindService:
		return []field{
			serviceName: {"name", text}, serviceTitle: {"descriptiveName", text},
			serviceDescription: {"description", text}, servicePath: {"path", text}, serviceArguments: {"arguments", text},
			serviceMode: {"mode", text}, serviceStatus: {"status", text}, serviceType: {"type", text},
			servicePID: {"pid", number}, serviceUser: {"startedAs", text},
		}
	case KindUser:
		return []field{
			userName: {"Username", text}, userFullName: {"fullname", text}, userUID: {"SecurityID", text},
			userHome: {"homedirectory", folder}, userGroup: {"grouplist/groupname", text},
			userLastLogin: {"LastLogin", moment}, userDisabled: {"disabled", text}, userLocked: {"lockedout", text},
			userPassword: {"passwordrequired", text},
		}
	case KindSystem:
		return []field{
			systemMachine: {"machine", text}, systemHostname: {"hostname", text}, systemDomain: {"domain", text},
			systemOS: {"OS", text}, systemProduct: {"productName", text}, systemBuild: {"buildNumber", text},
			systemPatch: {"patchLevel", text}, systemBits: {"OSbitness", text}, systemArch: {"procType", text},
			systemProcessor: {"processor", text}, systemMemory: {"totalphysical", number},
			systemFree: {"availphysical", number}, systemUptime: {"uptime", span}, systemDate: {"date", moment},
			systemAdapter:  {"networkArray/networkInfo/adapter", text},
			systemHardware: {"networkArray/networkInfo/MAC", hardware},
			systemAddress:  {"networkArray/networkInfo/ipArray/ipInfo/ipAddress", address},
		}
	case KindVolume:
		return []field{
			volumeName: {"VolumeName", folder}, volumeLetter: {"DriveLetter", text}, volumeDevice: {"DevicePath", text},
			volumeType: {"Type", text}, volumeFilesystem: {"FileSystemName", text},
			volumeFlags: {"FileSystemFlags", text}, volumeUnit: {"BytesPerSector", number},
			volumeUnits: {"TotalAllocationUnits", number}, volumeFree: {"ActualAvailableAllocationUnits", number},
			volumeMounted: {"IsMounted", text},
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
