package redisbus

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"

	"github.com/edr-bridge/edr-bridge/bridge"
)

var (
	// ErrOpenServer ends Run: the server is beyond this machine, its default user has no password and
	// protected-mode is off, so anyone could forge alerts.
	ErrOpenServer = errors.New("redis lets anyone in: set a password for the default user, or allow an open server explicitly")
	// ErrCredentials says that the server refused user or password, or that the user may not do what is needed.
	ErrCredentials = errors.New("redis refused the credentials: check user, password and ACL")

	errSettled = errors.New("delivery is settled already")
)

// explain adds what the caller can branch on: ErrCredentials or bridge.ErrNotConnected.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "NOAUTH"), redis.HasErrorPrefix(err, "NOPERM"),
		redis.HasErrorPrefix(err, "DENIED"), redis.HasErrorPrefix(err, "invalid username-password"):
		return fmt.Errorf("%w: %w", ErrCredentials, err)
	case isReply(err), errors.Is(err, ErrOpenServer), errors.Is(err, context.Canceled):
		return err
	default:
		return fmt.Errorf("%w: %w", bridge.ErrNotConnected, err)
	}
}

// neverSent reports whether the call certainly did not reach the server, or was refused by it unexecuted.
func neverSent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	if redis.IsLoadingError(err) || redis.IsReadOnlyError(err) || redis.IsMasterDownError(err) ||
		redis.IsClusterDownError(err) || redis.IsTryAgainError(err) || redis.IsMaxClientsError(err) {
		return true
	}
	return errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted)
}
