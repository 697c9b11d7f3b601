package policy

import "github.com/weirlb/weir/engine/sim/world"

// sedOracle takes the shortest expected delay: it knows every member's true current speed, slots, affinity and how many
// requests of each class it has, whichever balancer sent them, but no size. Behind n requests on a member of s slots one more
// waits for n-s+1 of them to finish, which takes the mean expected service time of those n / s each (exact for exponential
// service times of one class), and then for its own expected service time.
type sedOracle struct {
	blind
	truth   *world.Truth
	choices choices
	size    [][]float64 // by peer and class: expected, ms at speed 1
}

func newSEDOracle(s *world.Setup) world.Balancer {
	s.Truth.TrackWork()
	o := &sedOracle{truth: s.Truth, choices: newChoices(s.Rand)}
	for i := range s.Scenario.Peers {
		var by []float64
		for c, class := range s.Scenario.Classes {
			by = append(by, class.MeanMS*s.Truth.Affinity(int32(i), int32(c)))
		}
		o.size = append(o.size, by)
	}
	return o
}

// Pick implements world.Balancer.
func (o *sedOracle) Pick(a *world.Attempt) int32 {
	o.choices.reset()
	for _, p := range a.Present {
		if !a.Untried(p) {
			continue
		}
		size := o.size[p]
		n, held := int32(0), 0.0
		for class, count := range o.truth.Work(p) {
			n += count
			held += float64(count) * size[class]
		}
		slots := o.truth.Slots(p)
		work := size[a.Class]
		if n >= slots {
			work += held * float64(n-slots+1) / float64(n*slots)
		}
		o.choices.offer(p, work/o.truth.Speed(p))
	}
	return o.choices.pick()
}

// greedyOracle takes the member that would finish this very request first: it knows every speed, every size and the exact
// backlog. It is greedy: what it leaves for those who come later is no concern of its own.
type greedyOracle struct {
	blind
	truth   *world.Truth
	choices choices
}

func newGreedyOracle(s *world.Setup) world.Balancer {
	s.Truth.TrackBacklog()
	return &greedyOracle{truth: s.Truth, choices: newChoices(s.Rand)}
}

// Pick implements world.Balancer.
func (o *greedyOracle) Pick(a *world.Attempt) int32 {
	o.choices.reset()
	for _, p := range a.Present {
		if a.Untried(p) {
			o.choices.offer(p, o.truth.Completion(p))
		}
	}
	return o.choices.pick()
}
