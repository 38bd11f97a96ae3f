// Workloads whose threads hand objects to each other; ../workloads.cpp says more of each.
package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// runLarson: a server whose threads, here goroutines, replace objects at random, then end and leave
// them to a new one.
func runLarson(how setting) []measurement {
	const places, lives = 1000, 20
	steps := scaled(25_000, how)
	life := func(mine []object, seed int) {
		var own calls
		random := newRandoms(seed)
		for i := 0; i < steps; i++ {
			o := &mine[random.between(0, places-1)]
			o.drop()
			o.make(random.between(8, 1000), &own)
		}
		own.note()
	}
	ofThread := make([][]object, how.threads)
	for t := range ofThread {
		ofThread[t] = make([]object, places)
	}
	took := inThreads(how.threads, func(me int) {
		for k := 0; k < lives; k++ {
			ended := make(chan struct{})
			go func(seed int) {
				life(ofThread[me], seed)
				close(ended)
			}(me*lives + k)
			<-ended
		}
		for i := range ofThread[me] {
			ofThread[me][i].drop()
		}
	})
	return took.of(steps * lives)
}

// runXmalloc: producers allocate, consumers free; batches of 64 objects pass through a bounded
// queue.
func runXmalloc(how setting) []measurement {
	const batch, room = 64, 64
	type parcel [batch]object
	type channel struct {
		mutex   sync.Mutex
		ring    [room]parcel
		in, out int
	}
	parcels := scaled(10_000, how)
	pairs := how.threads / 2
	if pairs == 0 {
		pairs = 1
	}
	channels := make([]*channel, pairs)
	for i := range channels {
		channels[i] = new(channel)
	}
	took := inThreads(2*pairs, func(me int) {
		var own calls
		var load parcel
		random := newRandoms(me)
		c := channels[me/2]
		produces, isLoaded := me%2 == 0, false
		for done := 0; done < parcels; {
			if produces && !isLoaded {
				for i := range load {
					load[i].make(random.between(16, 512), &own)
				}
				isLoaded = true
			}
			passed := false
			c.mutex.Lock()
			if produces && c.in-c.out < room {
				place := &c.ring[c.in%room]
				*place, load = load, *place
				c.in++
				passed = true
			} else if !produces && c.in != c.out {
				place := &c.ring[c.out%room]
				*place, load = load, *place
				c.out++
				passed = true
			}
			c.mutex.Unlock()
			if !passed { // the other one's turn
				runtime.Gosched()
				continue
			}
			done++
			isLoaded = false
			if !produces {
				for i := range load {
					load[i].drop()
				}
			}
		}
		own.note()
	})
	return took.of(parcels * batch)
}

// runMstress: threads with lists of their own that exchange objects through a shared table, mostly
// small ones, some of which stay.
func runMstress(how setting) []measurement {
	const sharedPlaces, rounds = 1000, 10
	steps := scaled(30_000, how)
	shared := make([]atomic.Pointer[object], sharedPlaces)
	dropShared := func(o *object) {
		if o != nil {
			o.drop()
		}
	}
	took := inThreads(how.threads, func(me int) {
		var own calls
		random := newRandoms(me + 1)
		mine, kept := make([]object, 0, steps), []object(nil)
		pop := func() object {
			last := len(mine) - 1
			o := mine[last]
			mine[last] = object{} // what is behind the end would be a reference, too
			mine = mine[:last]
			return o
		}
		for round := 0; round < rounds; round++ {
			for i := 0; i < steps; i++ {
				what := random.next() % 100
				if what < 50 || len(mine) == 0 {
					n := 8 << random.between(0, 5)
					if what == 0 {
						n *= 100
					}
					var o object
					o.make(n+random.between(0, 7), &own)
					if what == 1 {
						kept = append(kept, o)
					} else {
						mine = append(mine, o)
					}
				} else if what < 90 {
					k, last := random.between(0, len(mine)-1), len(mine)-1
					mine[k], mine[last] = mine[last], mine[k]
					o := pop()
					o.drop()
				} else {
					out := new(object)
					own.mallocs++
					*out = pop()
					dropShared(shared[random.between(0, sharedPlaces-1)].Swap(out))
				}
			}
			for i := range mine {
				mine[i].drop()
			}
			mine = mine[:0]
		}
		for i := range kept {
			kept[i].drop()
		}
		own.note()
	})
	for i := range shared {
		dropShared(shared[i].Swap(nil))
	}
	return took.of(steps * rounds)
}

// runRptest: sizes from 16 bytes to 16 KB, small ones far more often; each thread frees its own
// and, one time in ten, what another has left.
func runRptest(how setting) []measurement {
	const places, sharedPlaces = 4000, 256
	steps := scaled(250_000, how)
	shared := make([]atomic.Pointer[byte], sharedPlaces)
	took := inThreads(how.threads, func(me int) {
		var own calls
		random := newRandoms(me + 7)
		mine := make([]object, places)
		for i := 0; i < steps; i++ {
			o := &mine[random.between(0, places-1)]
			if o.p != nil && random.next()%10 == 0 {
				shared[random.between(0, sharedPlaces-1)].Store(&o.p[0])
				o.p = nil
			}
			o.drop()
			n := random.between(16, 16000)
			for k := 0; k < 2; k++ {
				if other := random.between(16, 16000); other < n {
					n = other
				}
			}
			o.make(n, &own)
		}
		for i := range mine {
			mine[i].drop()
		}
		own.note()
	})
	return took.of(steps)
}
