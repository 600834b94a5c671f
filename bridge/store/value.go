package store

import (
	"database/sql/driver"
	"math"
	"time"
)

// The last moments an int64 of nanoseconds can hold, 1677 and 2262.
const (
	minSecond = math.MinInt64/int64(time.Second) + 1
	maxSecond = math.MaxInt64/int64(time.Second) - 1
)

// text returns the value of a text column: empty is NULL.
func text[S ~string](s S) driver.Value {
	if s == "" {
		return nil
	}
	return string(s)
}

// number returns the value of an integer column: zero is NULL.
func number[N ~int | ~int64](n N) driver.Value {
	if n == 0 {
		return nil
	}
	return int64(n)
}

// nanos returns the value of a time column: zero is NULL, what an int64 cannot hold becomes the nearest it can.
func nanos(t time.Time) driver.Value {
	if t.IsZero() {
		return nil
	}
	switch sec := t.Unix(); {
	case sec < minSecond:
		return minSecond * int64(time.Second)
	case sec > maxSecond:
		return maxSecond * int64(time.Second)
	default:
		return t.UnixNano()
	}
}

func asText(v driver.Value) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	default:
		return ""
	}
}

func asInt(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func asBytes(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

func asTime(v driver.Value) time.Time {
	n, ok := v.(int64)
	if !ok {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
