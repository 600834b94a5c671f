// Package sensor watches processes start and turns suspicious chains into alerts.
//
//	kernel (proc connector) → table of processes → rules, baseline, indicators → alert → Redis, or the bridge itself
//
// It sees, it does not act. It knows no order and no executor.
package sensor
