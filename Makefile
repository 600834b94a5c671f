# Developer targets. They only name go commands; .ci/run and the README call them.
GO      ?= go
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint
FUZZ    ?= 20000x
PKG     ?= ./...

.PHONY: build check lint test live fuzz bench chaos soak storm golden wine
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ ./cmd/edr-bridge ./cmd/edr-bridge-call
check: lint
	GOOS=windows $(GO) vet ./...
	$(GO) test -race ./...
lint:
	$(GO) vet ./...
	$(LINT) run ./...
test:
	$(GO) test ./...
live:
	./.ci/live
fuzz:
	./.ci/fuzz $(FUZZ)
bench:
	$(GO) run ./bench
	$(GO) test -run '^$$' -bench . ./localagent/...
chaos: KILLS ?= 200
chaos: ALERTS ?= 5000
soak: KILLS ?= 5000
soak: ALERTS ?= 100000
chaos soak:
	$(GO) run ./chaos -kills $(KILLS) -alerts $(ALERTS)
wine:
	./localagent/wine/run
storm:
	$(GO) run ./chaos -storm
golden:
	$(GO) test ./bridge ./configs ./mapping ./ksc ./cmd/edr-bridge -update
