package ksctest

import "time"

// step is something that happens at a time: an incident becomes a task, or a task goes on.
type step struct {
	due        time.Time
	seq        int // keeps steps of the same time in order
	incidentID int
	task       *Task // nil: the incident is to be read
}

// stepHeap orders steps by time.
type stepHeap []step

// Len implements heap.Interface.
func (h stepHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h stepHeap) Less(i, j int) bool {
	if c := h[i].due.Compare(h[j].due); c != 0 {
		return c < 0
	}
	return h[i].seq < h[j].seq
}

// Swap implements heap.Interface.
func (h stepHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *stepHeap) Push(x any) { *h = append(*h, x.(step)) }

// Pop implements heap.Interface.
func (h *stepHeap) Pop() any {
	last := len(*h) - 1
	top := (*h)[last]
	(*h)[last] = step{}
	*h = (*h)[:last]
	return top
}
