// Command bare is the limit the benchmarks compare with: the least Go program that does the same calls as
// edr-bridge with no record, no rules and no checks. It is measured in the same run and used for nothing else.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func main() {
	var (
		redisAddr = flag.String("redis", "", "unix socket of Redis")
		key       = flag.String("key", "", "channel or stream")
		ksc       = flag.String("ksc", "", "host:port of KSC")
		inFlight  = flag.Int("inflight", 64, "alerts in flight")
		host      = flag.String("host", "", "host id for send")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { os.Exit(0) }) // a cancelled context does not end a read of go-redis
	var err error
	switch flag.Arg(0) {
	case "send":
		err = send(ctx, *ksc, *host)
	case "pubsub":
		err = pubsub(ctx, *redisAddr, *key)
	case "stream":
		err = stream(ctx, *redisAddr, *key, *ksc, *inFlight)
	default:
		err = errors.New("usage: bare [flags] send|pubsub|stream")
	}
	if err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func dial(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Network: "unix", Addr: addr, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// pubsub kills the pid of every alert.
func pubsub(ctx context.Context, addr, channel string) error {
	sub := dial(addr).Subscribe(ctx, channel)
	if _, err := sub.Receive(ctx); err != nil {
		return err
	}
	fmt.Println("subscribed")
	for {
		msg, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		var alert struct {
			PID int `json:"actionable_pid"`
		}
		if err := json.Unmarshal([]byte(msg.Payload), &alert); err != nil {
			return err
		}
		go kill(alert.PID)
	}
}

// client is the three calls of one response and nothing else.
type client struct {
	base, session string
	http          *http.Client
}

func newClient(addr string, inFlight int) *client {
	return &client{base: "https://" + addr + "/api/v1.0/", http: &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a benchmark against its own mock
		MaxIdleConnsPerHost: inFlight, MaxConnsPerHost: inFlight,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}}
}

func (c *client) call(ctx context.Context, method, auth string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	} else {
		req.Header.Set("X-KSC-Session", c.session)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, out)
	}
	return out, nil
}

func (c *client) login(ctx context.Context) error {
	b64 := base64.StdEncoding.EncodeToString
	out, err := c.call(ctx, "Session.StartSession", fmt.Sprintf(`KSCBasic user="%s", pass="%s", internal="0"`, b64([]byte("lab")), b64([]byte("lab"))), []byte("{}"))
	if err != nil {
		return err
	}
	var ans struct {
		PxgRetVal string `json:"PxgRetVal"`
	}
	if err := json.Unmarshal(out, &ans); err != nil {
		return err
	}
	c.session = ans.PxgRetVal
	return nil
}

func (c *client) respond(ctx context.Context, host, task string, params json.RawMessage) error {
	body, err := json.Marshal(map[string]any{
		"targetHost": host, "task": task, "params": params, "responseEventIncident": true, "responseEventIncidentArea": "Kuma",
	})
	if err != nil {
		return err
	}
	add, err := json.Marshal(map[string]any{"pData": map[string]any{
		"KLINCDT_SEVERITY": 2, "KLINCDT_BODY": string(body), "KLHST_WKS_HOSTNAME": host,
		"KLINCDT_ADDED": map[string]string{"type": "datetime", "value": time.Now().UTC().Format("2006-01-02T15:04:05Z")},
	}})
	if err != nil {
		return err
	}
	out, err := c.call(ctx, "HostGroup.AddIncident", "", add)
	if err != nil {
		return err
	}
	var ans struct {
		PxgRetVal int `json:"PxgRetVal"`
	}
	if err := json.Unmarshal(out, &ans); err != nil {
		return err
	}
	_, err = c.call(ctx, "HostGroup.UpdateIncident", "", fmt.Appendf(nil,
		`{"nId":%d,"pData":{"KLINCDT_IS_HANDLED":false,"KLHST_WKS_HOSTNAME":%q}}`, ans.PxgRetVal, host))
	return err
}

func send(ctx context.Context, ksc, host string) error {
	c := newClient(ksc, 1)
	if err := c.login(ctx); err != nil {
		return err
	}
	return c.respond(ctx, host, "isolateHost", json.RawMessage(`{"action":1}`))
}

// stream reads alerts from a group and makes both calls for each, inFlight at a time.
func stream(ctx context.Context, addr, key, ksc string, inFlight int) error {
	c := newClient(ksc, inFlight)
	if err := c.login(ctx); err != nil {
		return err
	}
	rdb := dial(addr)
	if err := rdb.XGroupCreateMkStream(ctx, key, "edr-bridge", "0").Err(); err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		return err
	}
	fmt.Println("subscribed")
	work := make(chan redis.XMessage, inFlight)
	acks := make(chan string, 4*inFlight)
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for m := range work {
				doc, _ := m.Values["alert"].(string)
				var alert struct {
					Host    string `json:"host"`
					Process struct {
						Path string `json:"path"`
					} `json:"process"`
				}
				if json.Unmarshal([]byte(doc), &alert) != nil {
					continue
				}
				params := fmt.Appendf(nil, `{"md5hash":"","sha256hash":"","path":%q,"caseSensitive":false}`, alert.Process.Path)
				if err := c.respond(ctx, alert.Host, "terminateProcess", params); err != nil {
					log.Print(err)
					continue
				}
				acks <- m.ID
			}
		})
	}
	var acker sync.WaitGroup
	acker.Go(func() { ackAll(ctx, rdb, key, acks) })
	err := readAll(ctx, rdb, key, work)
	close(work)
	wg.Wait()
	close(acks)
	acker.Wait()
	return err
}

func readAll(ctx context.Context, rdb *redis.Client, key string, work chan<- redis.XMessage) error {
	for ctx.Err() == nil {
		res, err := rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "edr-bridge", Consumer: "bare", Streams: []string{key, ">"}, Count: 128, Block: time.Second}).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range res[0].Messages {
			work <- m
		}
	}
	return nil
}

func ackAll(ctx context.Context, rdb *redis.Client, key string, acks <-chan string) {
	for id := range acks {
		ids := []string{id}
		for len(ids) < 128 {
			select {
			case id, open := <-acks:
				if !open {
					_ = rdb.XAck(ctx, key, "edr-bridge", ids...).Err()
					return
				}
				ids = append(ids, id)
				continue
			default:
			}
			break
		}
		_ = rdb.XAck(ctx, key, "edr-bridge", ids...).Err()
	}
}
