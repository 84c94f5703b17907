package trt

// This file is the only one with C in it. What crosses: integers, text that is
// copied at once, and addresses of memory that C made or that is pinned. A
// handle is an unsafe.Pointer that nobody here looks behind; who holds it frees
// it, once. The library is opened once a process and never closed: TensorRT
// keeps threads and a logger for as long as the process lives.

// #cgo LDFLAGS: -ldl
// #include "table.h"
import "C"

import (
	"runtime"
	"strings"
	"unsafe"
)

// messageSize is how much of what went wrong is copied out.
const messageSize = 4096

// What openTable says of a library.
const (
	tableOpen     = C.TABLE_OPEN
	tableNoSymbol = C.TABLE_NO_SYMBOL
	tableOtherABI = C.TABLE_OTHER_ABI
)

// abiVersion is that of the interface that libraries must have.
const abiVersion = C.SIGHTD_TRT_ABI

// message is memory for what went wrong.
type message [messageSize]C.char

func (m *message) text() string { return tidy(C.GoString(&m[0])) }

// err is the error of a call that returned status, nil for success.
func (m *message) err(op string, status C.int) error {
	if status == C.SIGHTD_TRT_OK {
		return nil
	}
	return failure(op, Status(status), m.text())
}

// failure makes an error of what the library says, which may be nothing, or a
// status that no version of the interface has.
func failure(op string, status Status, text string) error {
	if status < BadArgument || status > Failed && status != Broken {
		status = Failed
	}
	if text == "" {
		text = "failed without a reason (" + status.String() + ")"
	}
	return &Error{status, op, text}
}

// tidy makes one line of text from outside.
func tidy(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
}

func openTable(path string) (kind int, text string) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var m message
	kind = int(C.table_open(name, &m[0], messageSize))
	return kind, m.text()
}

// loaderOpens asks the loader for a library.
func loaderOpens(library string) (ok bool, text string) {
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	var m message
	ok = C.loader_opens(name, &m[0], messageSize) != 0
	return ok, m.text()
}

// nvinferVersion is the version of a libnvinfer that the loader finds, 0 where it finds
// none or is told none.
func nvinferVersion(library string) Version {
	name := C.CString(library)
	defer C.free(unsafe.Pointer(name))
	v := Version(C.nvinfer_version(name))
	if v < 100000 { // until 8 TensorRT wrote major × 1000
		v = v/1000*10000 + v%1000
	}
	return v
}

func dieOfSignals() { C.die_of_signals() }

func callOpen() error {
	nvinfer := C.CString("")
	defer C.free(unsafe.Pointer(nvinfer))
	var m message
	return m.err("open", C.call_open(nvinfer, &m[0], messageSize))
}

// callVersion is what is known of versions; zeros where the library refuses.
func callVersion(info *Info) {
	v := C.struct_sightd_trt_version{size: C.sizeof_struct_sightd_trt_version}
	if C.call_version(&v) == C.SIGHTD_TRT_OK {
		info.TensorRT, info.Compiled, info.CUDA = Version(v.found), Version(v.compiled), Version(v.cuda)
	}
}

func callDevice() (Device, error) {
	d := C.struct_sightd_trt_device{size: C.sizeof_struct_sightd_trt_device}
	var m message
	if err := m.err("open", C.call_device(&d, &m[0], messageSize)); err != nil {
		return Device{}, err
	}
	return Device{
		Name:  text(d.name[:]),
		Major: int(d.major), Minor: int(d.minor),
		Integrated: d.integrated != 0,
		DLACores:   max(int(d.dla_cores), 0),
		Memory:     uint64(d.memory), Free: uint64(d.free),
		UUID: text(d.uuid[:]),
	}, nil
}

// text is what stands in a field before its NUL, which may be missing.
func text(field []C.char) string {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&field[0])), len(field))
	s, _, _ := strings.Cut(string(b), "\x00")
	return tidy(s)
}

// nextLog takes the oldest line that TensorRT logged.
func nextLog() (severity int, line string, dropped uint64, ok bool) {
	var m message
	var s C.int32_t
	var d C.uint64_t
	ok = C.call_next_log(&s, &m[0], messageSize, &d) != 0
	return int(s), m.text(), uint64(d), ok
}

// built is what a build left in C's memory; free gives it back.
type built struct {
	plan, timing, cache, dla []byte
	timingRefused            bool

	c *C.struct_sightd_trt_built
}

func (b *built) free() {
	C.call_free(&b.c.plan)
	C.call_free(&b.c.timing_cache)
	C.call_free(&b.c.cache)
	C.call_free(&b.c.dla)
}

func view(b C.struct_sightd_trt_buffer) []byte {
	if b.data == nil {
		return nil
	}
	return unsafe.Slice((*byte)(b.data), int(b.size))
}

// callBuild builds. timing is what the job names, read; images come by a descriptor.
func callBuild(job Job, images int, timing []byte) (*built, error) {
	var pinned runtime.Pinner
	defer pinned.Unpin()
	j := C.struct_sightd_trt_job{
		size:           C.sizeof_struct_sightd_trt_job,
		onnx:           pin(&pinned, job.Graph),
		onnx_size:      C.size_t(len(job.Graph)),
		int8:           flag(job.INT8),
		fp16:           flag(job.FP16),
		strongly_typed: flag(job.StronglyTyped),
		calibrator:     C.int32_t(calibrators[job.Calibrator]),
		cache:          pin(&pinned, job.Cache),
		cache_size:     C.size_t(len(job.Cache)),

		batch:             C.int32_t(job.Batch),
		workspace:         C.uint64_t(job.Workspace),
		tactic_memory:     C.uint64_t(job.TacticMemory),
		optimisation:      C.int32_t(job.Optimisation),
		force_int8:        flag(job.ForceINT8),
		timing_cache:      pin(&pinned, timing),
		timing_cache_size: C.size_t(len(timing)),
		images:            -1,
		dla_core:          -1,
	}
	if len(job.Keep) > 0 {
		keep := C.calloc(C.size_t(len(job.Keep)), C.size_t(unsafe.Sizeof(uintptr(0))))
		defer C.free(keep)
		names := unsafe.Slice((**C.char)(keep), len(job.Keep))
		for i, name := range job.Keep {
			names[i] = C.CString(name)
			defer C.free(unsafe.Pointer(names[i]))
		}
		j.keep, j.keep_count = (**C.char)(keep), C.int32_t(len(names))
	}
	if i := job.Images; i != nil {
		j.images = C.int32_t(images)
		if len(i.Table) > 0 {
			pinned.Pin(&i.Table[0])
			j.table, j.channel_count = (*C.float)(&i.Table[0][0]), C.int32_t(len(i.Table))
			for c, from := range i.Channels {
				j.channels[c] = C.int32_t(from)
			}
		}
	}
	if d := job.DLA; d != nil {
		j.dla_core, j.gpu_fallback = C.int32_t(d.Core), flag(d.Fallback)
		j.direct_input, j.input_scale = flag(d.Direct), C.float(d.InputScale)
	}
	made := C.struct_sightd_trt_built{size: C.sizeof_struct_sightd_trt_built}
	var m message
	if err := m.err("build", C.call_build(&j, &made, &m[0], messageSize)); err != nil {
		return nil, err
	}
	return &built{
		plan: view(made.plan), timing: view(made.timing_cache), cache: view(made.cache), dla: view(made.dla),
		timingRefused: made.timing_refused != 0, c: &made,
	}, nil
}

// pin is the address of bytes that stay where they are until pinned is let go.
func pin(pinned *runtime.Pinner, b []byte) unsafe.Pointer {
	if len(b) == 0 {
		return nil
	}
	pinned.Pin(&b[0])
	return unsafe.Pointer(&b[0])
}

func flag(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}

func callProgress() (phase string, step, steps int) {
	p := C.struct_sightd_trt_progress{size: C.sizeof_struct_sightd_trt_progress}
	if C.call_progress(&p) != C.SIGHTD_TRT_OK {
		return "", 0, 0
	}
	return text(p.phase[:]), int(p.step), int(p.steps)
}

// callCancel asks the build to end, and tells whether TensorRT listens.
func callCancel() bool { return C.call_cancel() == 1 }

// callLoad deserialises a plan for one device: a DLA core, or the GPU for -1.
// table must stay where it is until unload, by pinned.
func callLoad(plan []byte, core, lanes int, graphs bool, d *Direct, pinned *runtime.Pinner) (unsafe.Pointer, error) {
	var held runtime.Pinner
	defer held.Unpin()
	l := C.struct_sightd_trt_load{
		size: C.sizeof_struct_sightd_trt_load,
		plan: pin(&held, plan), plan_size: C.size_t(len(plan)),
		dla_core: C.int32_t(core), lanes: C.int32_t(lanes), graphs: flag(graphs),
	}
	if d != nil {
		pinned.Pin(&d.Table[0])
		l.table, l.channel_count = (*C.int8_t)(&d.Table[0][0]), C.int32_t(len(d.Table))
		for c, from := range d.Channels {
			l.channels[c] = C.int32_t(from)
		}
		l.softmax = flag(d.Softmax)
	}
	var e unsafe.Pointer
	var m message
	if err := m.err("load", C.call_load(&l, &e, &m[0], messageSize)); err != nil {
		return nil, err
	}
	return e, nil
}

// engineInfo is what a loaded engine takes and gives.
type engineInfo struct {
	batch, height, width, classes, lanes int
	memory                               uint64
}

func callEngineInfo(e unsafe.Pointer) (engineInfo, error) {
	i := C.struct_sightd_trt_engine_info{size: C.sizeof_struct_sightd_trt_engine_info}
	if status := C.call_engine_info(e, &i); status != C.SIGHTD_TRT_OK {
		return engineInfo{}, failure("load", Status(status), "the engine doesn't tell what it takes")
	}
	return engineInfo{
		batch: int(i.batch), height: int(i.height), width: int(i.width),
		classes: int(i.classes), lanes: int(i.lanes), memory: uint64(i.device_memory),
	}, nil
}

func callInspect(e unsafe.Pointer) ([]byte, error) {
	var b C.struct_sightd_trt_buffer
	var m message
	if err := m.err("inspect", C.call_inspect(e, &b, &m[0], messageSize)); err != nil {
		return nil, err
	}
	defer C.call_free(&b)
	return append([]byte(nil), view(b)...), nil
}

func callUnload(e unsafe.Pointer) { C.call_unload(e) }

// callBind returns a binding and its scores. pixels must not move.
func callBind(e unsafe.Pointer, pixels []byte, images, classes int) (b unsafe.Pointer, scores []float32, err error) {
	var values unsafe.Pointer
	var m message
	status := C.call_bind(e, unsafe.Pointer(&pixels[0]), C.size_t(len(pixels)), C.int32_t(images), &b, &values, &m[0], messageSize)
	if err := m.err("bind", status); err != nil {
		return nil, nil, err
	}
	return b, unsafe.Slice((*float32)(values), images*classes), nil
}

func callBindingInfo(b unsafe.Pointer) (registered, graphs bool) {
	i := C.struct_sightd_trt_binding_info{size: C.sizeof_struct_sightd_trt_binding_info}
	if C.call_binding_info(b, &i) != C.SIGHTD_TRT_OK {
		return false, false
	}
	return i.registered != 0, i.graphs != 0
}

func callUnbind(b unsafe.Pointer) { C.call_unbind(b) }

// newMessage is C's memory for the message of a run, which may allocate none.
func newMessage() unsafe.Pointer { return C.calloc(1, messageSize) }

func freeMessage(m unsafe.Pointer) { C.free(m) }

func callGather(b unsafe.Pointer, image int, from, m unsafe.Pointer) error {
	status := C.call_gather(b, C.int32_t(image), from, (*C.char)(m), messageSize)
	if status == C.SIGHTD_TRT_OK {
		return nil
	}
	return failure("run", Status(status), tidy(C.GoString((*C.char)(m))))
}

func callStart(b unsafe.Pointer, lane int, m unsafe.Pointer) error {
	status := C.call_start(b, C.int32_t(lane), (*C.char)(m), messageSize)
	if status == C.SIGHTD_TRT_OK {
		return nil
	}
	return failure("run", Status(status), tidy(C.GoString((*C.char)(m))))
}

func callWait(b, m unsafe.Pointer) error {
	status := C.call_wait(b, (*C.char)(m), messageSize)
	if status == C.SIGHTD_TRT_OK {
		return nil
	}
	return failure("run", Status(status), tidy(C.GoString((*C.char)(m))))
}
