package redisbus

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge/bridgetest"
)

func TestStreamKeepsTheSourceContract(t *testing.T) {
	t.Parallel()
	t.Run("redis", func(t *testing.T) {
		bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
			return streamUnderTest(t, startRedis(t).addr, "one")
		})
	})
	t.Run("miniredis", func(t *testing.T) {
		bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
			return streamUnderTest(t, miniredis.RunT(t).Addr(), "one")
		})
	})
}

func streamUnderTest(t *testing.T, addr, consumer string) bridgetest.SourceUnderTest {
	s, _ := newTestStream(t, addr, func(c *StreamConfig) { c.Consumer = consumer })
	run(t, s)
	awaitReady(t, s)
	c := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true, Protocol: 2})
	t.Cleanup(func() { _ = c.Close() })
	return bridgetest.SourceUnderTest{
		Source: s, Name: "bus", Preset: "python-edr", Durable: true, Quiet: 700 * time.Millisecond,
		Send: func(ctx context.Context, doc []byte) error {
			return c.XAdd(ctx, &redis.XAddArgs{Stream: "alerts", Values: []any{"alert", doc}}).Err()
		},
		Close:  s.Close,
		Reopen: func(t *testing.T) bridgetest.SourceUnderTest { return streamUnderTest(t, addr, consumer) },
		DeadLetters: func(ctx context.Context) ([][]byte, error) {
			list, err := c.XRange(ctx, "alerts:dead", "-", "+").Result()
			docs := make([][]byte, 0, len(list))
			for _, m := range list {
				doc, errDoc := base64.StdEncoding.DecodeString(m.Values["document"].(string))
				if errDoc != nil {
					return nil, errDoc
				}
				docs = append(docs, doc)
			}
			return docs, err
		},
	}
}

func TestPubSubKeepsTheSourceContract(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) string{
		"redis":     func(t *testing.T) string { return startRedis(t).addr },
		"miniredis": func(t *testing.T) string { return miniredis.RunT(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			bridgetest.TestSource(t, func(t *testing.T) bridgetest.SourceUnderTest {
				addr := start(t)
				p, _ := newTestPubSub(t, addr, nil)
				run(t, p)
				awaitReady(t, p)
				c := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true, Protocol: 2})
				t.Cleanup(func() { _ = c.Close() })
				return bridgetest.SourceUnderTest{
					Source: p, Name: "legacy", Preset: "python-edr", Close: p.Close,
					Send: func(ctx context.Context, doc []byte) error {
						return c.Publish(ctx, "high_severity_alerts", doc).Err()
					},
				}
			})
		})
	}
}
