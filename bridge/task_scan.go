package bridge

import (
	"fmt"
	"strconv"
	"strings"
)

// ScanType is a scan scope of onDemandScan (ScanObjectType of Kaspersky's page; 19 to 21 are not defined).
type ScanType int

// The scan scopes.
const (
	ScanSystemMemory        ScanType = 14
	ScanStartupAndProcesses ScanType = 15 // StartupObjectsAndRunningProcesses
	ScanDiskBootSectors     ScanType = 16
	ScanSystemBackupStorage ScanType = 17
	ScanEmail               ScanType = 18
	ScanFolder              ScanType = 22
	ScanAllRemovableDrives  ScanType = 23
	ScanAllNetworkDrives    ScanType = 24
	ScanAllFixedDrives      ScanType = 25
)

const (
	maxScanObjects = 100
	maxIOCArchive  = 8 << 20 // bytes of base64; the request body limit of the client
)

// IOCScan looks for indicators of compromise.
type IOCScan struct {
	// IOC is the base64 of a ZIP archive with OpenIOC files. (The table of the vendor's page calls it a path;
	// the server could not read one, and the type comment says base64.)
	IOC string `json:"ioc"`
	// IsolateHost, ScanCriticalAreas and QuarantineObject follow on a hit.
	IsolateHost       bool `json:"isolateHost"`
	ScanCriticalAreas bool `json:"scanCriticalAreas"`
	QuarantineObject  bool `json:"quarantineObject"`
}

// OnDemandScan scans for malware. Its params are an array:
//
//	[{"enabled":true,"path":"C:\\Users","recursive":true,"type":22}]
type OnDemandScan struct {
	// Objects are the scopes, 1 to 100.
	Objects []ScanObject
}

// ScanObject is one scope of a scan.
type ScanObject struct {
	Enabled bool `json:"enabled"`
	// Path is the absolute path of a folder for ScanFolder, else empty.
	Path      string   `json:"path"`
	Recursive bool     `json:"recursive"`
	Type      ScanType `json:"type"`
}

// Kind returns KindIOCScan.
func (IOCScan) Kind() Kind { return KindIOCScan }

// Kind returns KindOnDemandScan.
func (OnDemandScan) Kind() Kind { return KindOnDemandScan }

func (IOCScan) task()      {}
func (OnDemandScan) task() {}

// String returns the name on Kaspersky's page, or the number of an unknown type.
func (t ScanType) String() string {
	switch t {
	case ScanSystemMemory:
		return "SystemMemory"
	case ScanStartupAndProcesses:
		return "StartupObjectsAndRunningProcesses"
	case ScanDiskBootSectors:
		return "DiskBootSectors"
	case ScanSystemBackupStorage:
		return "SystemBackupStorage"
	case ScanEmail:
		return "Email"
	case ScanFolder:
		return "Folder"
	case ScanAllRemovableDrives:
		return "AllRemovableDrives"
	case ScanAllNetworkDrives:
		return "AllNetworkDrives"
	case ScanAllFixedDrives:
		return "AllFixedDrives"
	default:
		return strconv.Itoa(int(t))
	}
}

// ParseScanType returns the scan scope of a number ("22") or a name of Kaspersky's page ("Folder", in any case).
func ParseScanType(word string) (ScanType, error) {
	var names []string
	for _, t := range scanTypes() {
		if word == strconv.Itoa(int(t)) || looseName(word) == looseName(t.String()) {
			return t, nil
		}
		names = append(names, t.String())
	}
	return 0, fmt.Errorf("%s is no scan type%s: want %s", show(word), strings.TrimSuffix(DidYouMean(word, names), "?"), scanTypeList())
}

func scanTypes() []ScanType {
	return []ScanType{
		ScanSystemMemory, ScanStartupAndProcesses, ScanDiskBootSectors, ScanSystemBackupStorage, ScanEmail,
		ScanFolder, ScanAllRemovableDrives, ScanAllNetworkDrives, ScanAllFixedDrives,
	}
}

// scanTypeList is "14 SystemMemory, 15 …" for errors and descriptions.
func scanTypeList() string {
	var list []string
	for _, t := range scanTypes() {
		list = append(list, strconv.Itoa(int(t))+" "+t.String())
	}
	return strings.Join(list, ", ")
}
