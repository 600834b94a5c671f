// Package cef reads and writes lines of the ArcSight Common Event Format, the form in which most security products hand their
// alerts to a SIEM. It knows the form only, not what a key means; a syslog header in front of a line is for package syslog.
//
//	CEF:0|Vendor|Product|1.0|100|file \| blocked|8|dhost=ws-017 filePath=C:\\Users\\Public\\a b.exe cs1Label=rule cs1=R7 msg=done
//
// The form is published as "ArcSight Common Event Format (CEF) Implementation Standard" (OpenText), versions 0 and 1.
package cef
