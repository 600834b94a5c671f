package kuma

// eventCEFName returns the field of KUMA a key of the CEF standard stands for.
func eventCEFName(key string) (string, bool) {
	switch key {
	case "externalId":
		return "ID", true
	case "rt":
		return "Timestamp", true
	case "start":
		return "StartTime", true
	case "end":
		return "EndTime", true
	case "cnt":
		return "BaseEventCount", true
	case "dvchost":
		return "DeviceHostName", true
	case "dvc":
		return "DeviceAddress", true
	case "dvcpid":
		return "DeviceProcessID", true
	case "deviceProcessName":
		return "DeviceProcessName", true
	case "deviceNtDomain":
		return "DeviceNtDomain", true
	case "deviceDnsDomain":
		return "DeviceDnsDomain", true
	case "dvcmac":
		return "DeviceMacAddress", true
	case "shost":
		return "SourceHostName", true
	case "src":
		return "SourceAddress", true
	case "spt":
		return "SourcePort", true
	case "smac":
		return "SourceMacAddress", true
	case "sproc":
		return "SourceProcessName", true
	case "spid":
		return "SourceProcessID", true
	case "suser":
		return "SourceUserName", true
	case "suid":
		return "SourceUserID", true
	case "sntdom":
		return "SourceNtDomain", true
	case "sourceDnsDomain":
		return "SourceDnsDomain", true
	case "dhost":
		return "DestinationHostName", true
	case "dst":
		return "DestinationAddress", true
	case "dpt":
		return "DestinationPort", true
	case "dmac":
		return "DestinationMacAddress", true
	case "dproc":
		return "DestinationProcessName", true
	case "dpid":
		return "DestinationProcessID", true
	case "duser":
		return "DestinationUserName", true
	case "duid":
		return "DestinationUserID", true
	case "dntdom":
		return "DestinationNtDomain", true
	case "destinationDnsDomain":
		return "DestinationDnsDomain", true
	case "fname":
		return "FileName", true
	case "filePath":
		return "FilePath", true
	case "fileHash":
		return "FileHash", true
	case "fsize":
		return "FileSize", true
	case "fileType":
		return "FileType", true
	case "oldFileName":
		return "OldFileName", true
	case "oldFilePath":
		return "OldFilePath", true
	case "oldFileHash":
		return "OldFileHash", true
	case "oldFileSize":
		return "OldFileSize", true
	case "msg":
		return "Message", true
	case "act":
		return "DeviceAction", true
	case "outcome":
		return "EventOutcome", true
	case "cat":
		return "DeviceEventCategory", true
	case "request":
		return "RequestUrl", true
	case "proto":
		return "TransportProtocol", true
	case "app":
		return "ApplicationProtocol", true
	case "cs1":
		return "DeviceCustomString1", true
	case "cs1Label":
		return "DeviceCustomString1Label", true
	case "cs2":
		return "DeviceCustomString2", true
	case "cs2Label":
		return "DeviceCustomString2Label", true
	case "cs3":
		return "DeviceCustomString3", true
	case "cs3Label":
		return "DeviceCustomString3Label", true
	case "cs4":
		return "DeviceCustomString4", true
	case "cs4Label":
		return "DeviceCustomString4Label", true
	case "cs5":
		return "DeviceCustomString5", true
	case "cs5Label":
		return "DeviceCustomString5Label", true
	case "cs6":
		return "DeviceCustomString6", true
	case "cs6Label":
		return "DeviceCustomString6Label", true
	default:
		return "", false
	}
}
