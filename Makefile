# Developer targets. They only name go commands; .ci/run and the README call them.
GO      ?= go
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint
FUZZ    ?= 20000x
PKG     ?= ./...
KILLS   ?= 100
ALERTS  ?= 3000

.PHONY: build check lint test live fuzz bench chaos golden
build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/edr-bridge ./cmd/edr-bridge
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
chaos:
	$(GO) run ./chaos -kills $(KILLS) -alerts $(ALERTS)
golden:
	$(GO) test ./bridge ./configs ./mapping ./ksc ./cmd/edr-bridge -update
