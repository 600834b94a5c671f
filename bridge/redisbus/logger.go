package redisbus

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// SetLogger sends what the Redis client library logs by itself to log at level debug; nil silences it. The
// library has one logger for the whole process, so main calls this once, before any source runs.
// What matters is also returned as an error or handed over as a Note.
func SetLogger(log *slog.Logger) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	redis.SetLogger(&libraryLogger{log: log})
}

type libraryLogger struct{ log *slog.Logger }

// Printf implements the logger interface of the Redis client.
func (l *libraryLogger) Printf(ctx context.Context, format string, v ...any) {
	if !l.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	l.log.DebugContext(ctx, "redis client", "text", clip(fmt.Sprintf(format, v...)))
}
