// Package jobs carries out what takes longer than an order may hold its place: scans, and programs that were started.
//
// A job has the id of its order. What became of it is on disk before anybody is told, so that after a restart the same order is
// neither begun a second time nor forgotten. It knows no task.
package jobs
