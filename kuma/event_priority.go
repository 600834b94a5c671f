package kuma

import "fmt"

// EventPriority is the severity of a correlation rule and its events, 1 to 4 (Low, Medium, High, Critical); 0 = absent. It is
// another scale than AlertPriority: 4 is Critical here and Low there.
type EventPriority int

// ParseEventPriority refuses what is not on the scale; 0 stands for absent.
func ParseEventPriority(n int) (EventPriority, error) {
	if n < 0 || n > 4 {
		return 0, fmt.Errorf("priority of an event is 1 to 4, not %d", n)
	}
	return EventPriority(n), nil
}

// Level returns LOW, MEDIUM, HIGH, CRITICAL, or "" when absent or not on the scale.
func (p EventPriority) Level() string {
	if p < 1 || p > 4 {
		return ""
	}
	return [...]string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}[p-1]
}

// AlertPriority is the severity of an alert, 1 to 16: 1–4 low, 5–8 medium, 9–12 high, 13–16 critical
// (support.kaspersky.com/kuma/3.2/233888); 0 = absent.
type AlertPriority int

// ParseAlertPriority refuses what is not on the scale; 0 stands for absent.
func ParseAlertPriority(n int) (AlertPriority, error) {
	if n < 0 || n > 16 {
		return 0, fmt.Errorf("priority of an alert is 1 to 16, not %d", n)
	}
	return AlertPriority(n), nil
}

// Level returns LOW, MEDIUM, HIGH, CRITICAL, or "" when absent or not on the scale.
func (p AlertPriority) Level() string {
	if p < 1 || p > 16 {
		return ""
	}
	return EventPriority((p + 3) / 4).Level()
}
