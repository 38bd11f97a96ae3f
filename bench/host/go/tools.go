// Time, random numbers and threads of the workloads.
package main

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// randoms is the generator of ../tools.hpp (splitmix64): the same seed gives the same numbers.
type randoms struct{ state uint64 }

func newRandoms(seed int) randoms {
	return randoms{uint64(seed)*0x9e3779b97f4a7c15 + 1}
}

func (r *randoms) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	x := r.state
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// between is uniform in [low, high].
func (r *randoms) between(low, high int) int {
	return low + int((r.next()>>32)*uint64(high-low+1)>>32)
}

// elapsed is how long something took, and how long all threads of the process ran in the meantime.
type elapsed struct{ ns, cpuNs float64 }

// of is the measurement of so many operations on objects whose sizes vary.
func (took elapsed) of(operations int) []measurement {
	count := float64(operations)
	return []measurement{{0, took.ns / count, took.cpuNs / count}}
}

// processNs is the CPU time of the process, the collector's threads included. The package syscall
// has getrusage alone, which counts in microseconds.
func processNs() float64 {
	const clockProcessCputimeID = 2
	var now syscall.Timespec
	_, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockProcessCputimeID,
		uintptr(unsafe.Pointer(&now)), 0)
	if failed != 0 {
		panic(failed)
	}
	return float64(now.Nano())
}

// inThreads runs f(thread) in as many goroutines, which begin together; what it took from then to
// the last end.
func inThreads(n int, f func(me int)) elapsed {
	var ready atomic.Int32
	var begun atomic.Bool
	var others sync.WaitGroup
	for t := 1; t < n; t++ {
		others.Add(1)
		go func(me int) {
			defer others.Done()
			ready.Add(1)
			for !begun.Load() {
				runtime.Gosched()
			}
			f(me)
		}(t)
	}
	for int(ready.Load())+1 < n {
		runtime.Gosched()
	}
	cpuBegin, begin := processNs(), time.Now()
	begun.Store(true)
	f(0)
	others.Wait()
	return elapsed{float64(time.Since(begin).Nanoseconds()), processNs() - cpuBegin}
}

// scaled is a number of operations at the scale that is wanted.
func scaled(n float64, how setting) int {
	return int(math.Max(1, n*how.scale))
}
