# GNU make. Every target installs what it lacks and is quick when nothing is.

PYTHON ?= python3
export ORT_DISABLE_TELEMETRY = 1
PREFIX ?= /usr/local
FUZZTIME ?= 10s
TESTFLAGS ?=
# Flags of bench/bench.py.
BENCHFLAGS ?=
# FOREVER=1 lets the demo go on until it is interrupted.
FOREVER ?=

# gocv without the modules that nothing here uses, some of which don't compile
# against Debian's OpenCV.
TAGS := gocv_specific_modules,gocv_videoio

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GOBUILD := go build -trimpath -buildvcs=false

ORT := lib/sightd/libonnxruntime.so
VENV := build/venv/.complete
NPM := build/npm/.complete

BUILD_PACKAGES := ca-certificates g++ pkg-config libopencv-dev \
	gstreamer1.0-plugins-base gstreamer1.0-plugins-good
TEST_PACKAGES := jq minisign mosquitto mosquitto-clients protobuf-compiler qemu-user rsync shellcheck systemd
ifneq ($(shell . /etc/os-release 2>/dev/null && echo $$ID),ubuntu)
TEST_PACKAGES += chromium # Ubuntu has it as a snap alone
endif

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo "Variables: PREFIX=$(PREFIX) PYTHON=$(PYTHON) FUZZTIME=$(FUZZTIME) TESTFLAGS=… BENCHFLAGS=… FOREVER=1"

## Running

.PHONY: demo
demo: build ## Classify a real video and photographs, seen by an MQTT subscriber; FOREVER=1 goes on.
	@go build -o build/sightd-demo ./demo/run
	@build/sightd-demo $(if $(filter 1,$(FOREVER)),--forever)

.PHONY: bench
bench: build test-deps ## Measure against baselines, for minutes; docs/performance.md explains.
	@mkdir -p build/bench
	@build/venv/bin/python -B bench/bench.py --out build/bench/report.md $(BENCHFLAGS)

# A fleet on this machine: how many, events a second of each, for how long, and
# memory, outage or always for its outboxes; RESTART=1 starts the killed server again.
DEVICES ?= 1000
RATE ?= 5
SECONDS ?= 60
DURABILITY ?= memory
RESTART ?=
.PHONY: fleet-bench
fleet-bench: build/nats-server ## DEVICES=1000 real sessions with RATE=5 events a second each against a cluster of three, one of which is killed.
	@go build -o build/fleet-bench ./bench/fleet
	@build/fleet-bench -devices $(DEVICES) -rate $(RATE) -seconds $(SECONDS) -durability $(DURABILITY) $(if $(filter 1,$(RESTART)),-restart)

## Building

.PHONY: build
build: bin/sightd bin/sightd-camera ## Build bin/sightd and bin/sightd-camera.

.PHONY: bin/sightd
bin/sightd: deps
	$(GOBUILD) -ldflags '$(LDFLAGS)' -o $@ .

.PHONY: bin/sightd-camera
bin/sightd-camera: deps
	$(GOBUILD) -tags $(TAGS) -o $@ ./camera/cmd/sightd-camera

# Where the headers are: TENSORRT_ROOT and CUDA_ROOT name folders with include/;
# nothing of NVIDIA is linked, so CXX may be a cross compiler.
TENSORRT_OUT ?= lib/sightd
.PHONY: tensorrt
tensorrt: ## Compile the library for TensorRT; TENSORRT_ROOT=… CUDA_ROOT=… name its headers.
	@TENSORRT_ROOT='$(TENSORRT_ROOT)' CUDA_ROOT='$(CUDA_ROOT)' CXX='$(CXX)' scripts/tensorrt.sh $(TENSORRT_OUT)

.PHONY: deps
deps: | go packages $(ORT) ## Install what building and running need.

.PHONY: go
go:
	@scripts/go.sh

.PHONY: packages
packages: | go
	@scripts/packages.sh $(BUILD_PACKAGES)

$(ORT): scripts/onnxruntime.sh scripts/onnxruntime.txt
	@scripts/pip.sh $(PYTHON)
	@scripts/onnxruntime.sh $(PYTHON) $(@D)

.PHONY: generate
generate: test-deps ## Generate the code for ONNX's format again.
	@scripts/generate.sh onnx/internal/pb

## Testing

.PHONY: test
test: build test-deps lint check-generated ## Everything that has to hold: linters and all tests, with the race detector and OpenCV's memory counted.
	@go tool gotestsum --format pkgname-and-test-fails -- -race -timeout 25m -tags $(TAGS),matprofile $(TESTFLAGS) ./...

# Whoever wants fewer, or those of another run: KILLS=… SEED=…
KILLS ?= 1000
SEED ?= 0
.PHONY: kill-test
kill-test: build test-deps ## Kill the daemon KILLS times (1000) in the midst of what it does with releases, for half an hour.
	go test -timeout 0 -run '^TestAKillAtAnyMomentLeavesAWholeReleaseServing$$' -v . -kill.n $(KILLS) -kill.seed $(SEED)

# SEED as above.
INTERRUPTIONS ?= 500
CUTS ?= 20000
.PHONY: soak
soak: test-deps ## Interrupt delivery over MQTT INTERRUPTIONS times (500), cut the power under the outbox CUTS times (20000): ten minutes.
	go test -timeout 0 -run '^(TestEveryPromisedEventArrivesWhateverIsInterrupted|TestAPowerCutAtAnyMomentCostsNothingPromised)$$' -v ./mqtt \
		-soak.n $(INTERRUPTIONS) -soak.cuts $(CUTS) -soak.seed $(SEED)

.PHONY: lint
lint: deps ## Formatting, go vet and staticcheck.
	@unformatted=$$(go tool gofumpt -l .); if [ -n "$$unformatted" ]; then \
		echo "Not as gofumpt formats (make format):" $$unformatted >&2; exit 1; fi
	go vet ./...
	go vet -tags $(TAGS) ./...
	go tool staticcheck -tags $(TAGS) ./...

.PHONY: format
format: | go ## Format the Go code.
	go tool gofumpt -w .

.PHONY: check-generated
check-generated: test-deps
	@# An underscore, so that ./... doesn't take it for a package of the module.
	@rm -rf build/_generated && scripts/generate.sh build/_generated
	@diff -u onnx/internal/pb/onnx.pb.go build/_generated/onnx.pb.go || \
		{ echo "onnx/internal/pb isn't what its schema gives: make generate" >&2; exit 1; }

.PHONY: fuzz
fuzz: deps ## Run each fuzz test for FUZZTIME.
	@scripts/fuzz.sh $(FUZZTIME) $(TAGS)

.PHONY: test-deps
test-deps: deps $(VENV) $(NPM) build/nats-server ## Install what the tests need beyond that.
	@scripts/packages.sh $(TEST_PACKAGES)

build/nats-server: go.mod | go
	$(GOBUILD) -o $@ github.com/nats-io/nats-server/v2
	@touch $@

# Without pip of its own, so that Debian's python3-venv isn't needed.
$(VENV): requirements-test.txt
	@scripts/pip.sh $(PYTHON)
	@echo "Installing the tests' Python packages" >&2
	@rm -rf $(@D)
	@$(PYTHON) -m venv --without-pip $(@D)
	@$(PYTHON) -m pip --disable-pip-version-check --python $(@D)/bin/python install --quiet -r $<
	@touch $@

# What subscribers use that is in npm's registry, and AsyncAPI's schema. Nothing
# else needs that registry, so tests are skipped where it can't be reached, and
# the next run tries again.
$(NPM): testdata/npm/package.json testdata/npm/package-lock.json $(VENV)
	@echo "Installing the tests' npm packages" >&2
	@rm -rf $(@D) && mkdir -p $(@D) && cp $(filter %.json,$^) $(@D)
	@if build/venv/bin/npm ci --prefix $(@D) --omit=optional --ignore-scripts --no-audit --no-fund --loglevel=error >&2; \
		then touch $@; \
		else echo "The tests of docs/asyncapi.yaml's form and of Node-RED are skipped: npm ci failed, see above" >&2; fi

## On a machine with a GPU

# Folders with TensorRT's libraries, with colons between; empty: the loader's own.
TENSORRT_LIBS ?=
# A folder of models to measure (gpu/README.md); the demo's alone without.
MODELS ?=
# Flags of gpu/bench.py.
GPUFLAGS ?=
RESULTS ?= build/gpu
GPU_KIT = build/gpu-kit
export TENSORRT_LIBS MODELS RESULTS

.PHONY: gpu-kit
gpu-kit: build ## Make build/gpu-kit, to test and measure on a GPU machine without Go; gpu/README.md explains.
	@scripts/gpu-kit.sh $(GPU_KIT) $(TAGS) '$(LDFLAGS)'

# They use the kit that is there, which may have been made elsewhere.
.PHONY: gpu-test
gpu-test: ## Run the tests that need a GPU, out of the kit; TENSORRT_LIBS=DIR[:DIR…].
	@[ -e $(GPU_KIT)/bin/sightd ] || $(MAKE) gpu-kit
	@$(GPU_KIT)/scripts/gpu-test.sh

.PHONY: gpu-bench
gpu-bench: ## Measure on a GPU, out of the kit; TENSORRT_LIBS=DIR[:DIR…] MODELS=DIR GPUFLAGS=….
	@[ -e $(GPU_KIT)/bin/sightd ] || $(MAKE) gpu-kit
	@$(GPU_KIT)/scripts/gpu-bench.sh $(GPUFLAGS)

## Installing

BINDIR = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec/sightd
LIBDIR = $(PREFIX)/lib/sightd
DATADIR = $(PREFIX)/share/sightd
DOCDIR = $(PREFIX)/share/doc/sightd
CONFDIR = /etc/sightd
# systemd looks beneath these two prefixes and in /etc.
SYSTEMDDIR = $(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib,/etc)
UNITDIR = $(SYSTEMDDIR)/systemd/system
SYSUSERSDIR = $(SYSTEMDDIR)/sysusers.d
TMPFILESDIR = $(SYSTEMDDIR)/tmpfiles.d
# The unit and the example name files as they lie beneath /usr.
RELOCATE = sed 's,/usr/bin/,$(BINDIR)/,; s,/usr/share/,$(PREFIX)/share/,'

.PHONY: install
install: ## Install what make build and make tensorrt built, beneath DESTDIR and PREFIX.
	@for f in bin/sightd bin/sightd-camera $(ORT); do \
		[ -e $$f ] || { echo "$$f isn't there: make build" >&2; exit 1; }; done
	install -D -m 755 bin/sightd $(DESTDIR)$(BINDIR)/sightd
	install -D -m 755 bin/sightd-camera $(DESTDIR)$(LIBEXECDIR)/sightd-camera
	install -D -m 644 $(ORT) $(DESTDIR)$(LIBDIR)/libonnxruntime.so
	@# Those of an earlier version would be taken for this one's.
	rm -f $(DESTDIR)$(LIBDIR)/libsightd-trt*.so
	$(if $(wildcard lib/sightd/libsightd-trt*.so),install -m 644 -t $(DESTDIR)$(LIBDIR) $(wildcard lib/sightd/libsightd-trt*.so))
	install -D -m 644 -t $(DESTDIR)$(DATADIR)/lite0 demo/lite0/*
	install -D -m 644 -t $(DESTDIR)$(DOCDIR) LICENSE NOTICE lib/sightd/onnxruntime-*
	install -d $(DESTDIR)$(UNITDIR)/sightd.service.d $(DESTDIR)$(CONFDIR)
	$(RELOCATE) systemd/sightd.service | install -m 644 /dev/stdin $(DESTDIR)$(UNITDIR)/sightd.service
	install -m 644 -t $(DESTDIR)$(UNITDIR)/sightd.service.d systemd/sightd.service.d/10-devices.conf
	install -D -m 644 -t $(DESTDIR)$(SYSUSERSDIR) systemd/sysusers.d/sightd.conf
	install -D -m 644 -t $(DESTDIR)$(TMPFILESDIR) systemd/tmpfiles.d/sightd.conf
	[ -e $(DESTDIR)$(CONFDIR)/sightd.yaml ] || \
		$(RELOCATE) daemon/sightd.example.yaml | install -m 644 /dev/stdin $(DESTDIR)$(CONFDIR)/sightd.yaml
ifeq ($(DESTDIR),)
	if command -v systemd-sysusers >/dev/null; then systemd-sysusers $(SYSUSERSDIR)/sightd.conf; fi
	if command -v systemd-tmpfiles >/dev/null; then systemd-tmpfiles --create $(TMPFILESDIR)/sightd.conf; fi
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	@echo "Installed. Edit $(CONFDIR)/sightd.yaml, then: systemctl enable --now sightd"
endif

.PHONY: uninstall
uninstall: ## Remove it again; configuration, state and user stay.
ifeq ($(DESTDIR),)
	if [ -d /run/systemd/system ]; then systemctl disable --now sightd || true; fi
endif
	rm -f $(DESTDIR)$(BINDIR)/sightd $(DESTDIR)$(SYSUSERSDIR)/sightd.conf $(DESTDIR)$(TMPFILESDIR)/sightd.conf \
		$(DESTDIR)$(UNITDIR)/sightd.service $(DESTDIR)$(UNITDIR)/sightd.service.d/10-devices.conf
	rm -rf $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(LIBDIR) $(DESTDIR)$(DATADIR) $(DESTDIR)$(DOCDIR)
	rmdir $(DESTDIR)$(UNITDIR)/sightd.service.d 2>/dev/null || true
ifeq ($(DESTDIR),)
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
endif

.PHONY: clean
clean: ## Remove what was built and fetched.
	rm -rf bin build lib
