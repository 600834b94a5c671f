// Package ioc reads OpenIOC 1.0 and 1.1 documents from a ZIP archive and looks for what they describe on this machine.
//
//	ZIP → documents → terms → collectors (files, processes, ports, …) → records → matches
//
// Reading and judging are pure; collectors are the only part that touches the machine. A term it does not know is no match and is
// reported as such. It changes nothing: what follows from a match is for the caller to do.
package ioc
