package bridge_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edr-bridge/edr-bridge/bridge"
)

// manyAlerts makes one delivery of n alerts with an order each, all for one host, and one alert that follows.
type manyAlerts struct{ n, each int }

func (m manyAlerts) Map(a bridge.Alert) ([]bridge.Mapped, error) {
	var out []bridge.Mapped
	for i := range m.n {
		one := bridge.Mapped{Alert: bridge.Alert{ID: fmt.Sprintf("%s#%d", a.ID, i), Source: a.Source}}
		for j := range m.each {
			o := isolate(fmt.Sprintf("%s-%03d-%03d", a.ID, i, j), "WS-1")
			o.AlertID = one.Alert.ID
			one.Orders = append(one.Orders, o)
		}
		out = append(out, one)
	}
	return out, nil
}

func TestDeliveryWithMoreOrdersThanPlacesIsWorkedOffInOrder(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]manyAlerts{"many alerts": {300, 1}, "many orders of an alert": {2, 150}, "both": {30, 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ksc := &script{}
				b := newBench(t, m, bridge.Router{KSC: ksc}, func(_ bench, c *bridge.PipelineConfig) { c.Orders = 16 })
				q := b.feed(t, "a", "b")
				for range 2 {
					if err := <-q.settled; err != nil {
						t.Errorf("settled with %v", err)
					}
				}
				var want []string
				for _, alert := range []string{"a", "b"} {
					for i := range m.n {
						for j := range m.each {
							want = append(want, fmt.Sprintf("%s-%03d-%03d", alert, i, j))
						}
					}
				}
				if got := ksc.asked(); got != fmt.Sprint(want) {
					t.Errorf("order of effects\n%s\nwant\n%v", got, want)
				}
			})
		})
	}
}

func TestLargeDeliveriesOfSeveralSourcesDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, manyAlerts{40, 3}, bridge.Router{KSC: &script{}}, func(_ bench, c *bridge.PipelineConfig) { c.Orders = 16 })
		var sources []bridge.NamedSource
		var queues []*queue
		for i := range 8 {
			q := newQueue()
			q.add(fmt.Sprint("a", i))
			close(q.in)
			queues = append(queues, q)
			sources = append(sources, bridge.NamedSource{Name: fmt.Sprint("s", i), Source: q})
		}
		if err := b.pipe.Run(t.Context(), sources, nil); err != nil {
			t.Fatal(err)
		}
		for i, q := range queues {
			if err := <-q.settled; err != nil {
				t.Errorf("source %d: settled with %v", i, err)
			}
		}
	})
}

func TestManyOrdersByHandAreWorkedOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ksc := newSite()
		h := openHouse(t, houseConfig{router: bridge.Router{KSC: ksc}})
		var orders []bridge.Order
		for i := range 1000 {
			orders = append(orders, byHand(kill(fmt.Sprintf("o%04d", i), fmt.Sprintf("ws-%d", i%7))))
		}
		out := h.submit(t, time.Hour, orders...)
		for _, o := range out {
			if o.State != bridge.StateAccepted {
				t.Fatalf("order %s is %s", o.ID, o.State)
			}
		}
	})
}
