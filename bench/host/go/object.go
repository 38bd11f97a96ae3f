package main

import (
	"sync/atomic"
	"unsafe"
)

var (
	damaged    atomic.Uint64 // objects without the contents they were given, or not aligned
	allMallocs atomic.Uint64
)

// calls counts the allocations of one thread; on its stack, so that threads share no line.
type calls struct{ mallocs uint64 }

func (own *calls) note() { allMallocs.Add(own.mallocs) }

var (
	sink   []byte
	toSink bool
)

// allocate is a malloc. The compiler has to take it for an object that outlives the call: it
// neither leaves it out nor puts it on the stack.
func allocate(n int) []byte {
	p := make([]byte, n)
	if toSink { // never
		sink = p
	}
	return p
}

// object is one of a workload; its first and last byte tell its address, so that one that was
// handed out twice, or taken by the collector while it lived, shows. The collector moves no object.
type object struct{ p []byte }

func (o *object) address() uintptr { return uintptr(unsafe.Pointer(&o.p[0])) }

func (o *object) mark() byte { return byte(o.address()>>4) ^ byte(len(o.p)) }

func (o *object) make(n int, own *calls) { o.take(allocate(n), own) }

// take has what was allocated for its bytes.
func (o *object) take(p []byte, own *calls) {
	o.p = p
	n := len(p)
	own.mallocs++
	alignment := uintptr(n & -n)
	if alignment > 8 {
		alignment = 8
	}
	if o.address()%alignment != 0 {
		damaged.Add(1)
	}
	m := o.mark()
	o.p[0], o.p[n-1] = m, m
}

// drop is a free: it checks the object, and nothing refers to it any longer.
func (o *object) drop() {
	if o.p == nil {
		return
	}
	if m := o.mark(); o.p[0] != m || o.p[len(o.p)-1] != m {
		damaged.Add(1)
	}
	o.p = nil
}
