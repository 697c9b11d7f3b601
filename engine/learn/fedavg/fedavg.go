// Package fedavg averages networks that several engines trained from one and the same network, each on its own traffic, by how many
// decisions each trained on (McMahan, Moore, Ramage, Hampson and Aguera y Arcas 2017). Pure.
//
// The average of networks is a network that answers like them only because they began alike and went a short way: neurons still
// stand for the same thing. So every part must come from the base.
package fedavg

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirlb/weir/engine/model"
)

// Part is what one engine made.
type Part struct {
	Who     string
	Net     *model.Net
	Samples int64 // decisions it was trained on
}

// maxSamples bounds what one part counts, so that sums stay exact; no engine keeps as many.
const maxSamples = 1 << 40

// Check tells why a part cannot be averaged with others that were made from base; nil = it can.
func Check(base *model.Net, p Part) error {
	switch {
	case p.Net == nil:
		return errors.New("there is no network")
	case !slices.Equal(p.Net.Sizes, base.Sizes):
		return fmt.Errorf("its layers are %v, those of the model it should come from %v", p.Net.Sizes, base.Sizes)
	case p.Samples < 1 || p.Samples > maxSamples:
		return fmt.Errorf("it claims to be trained on %d decisions", p.Samples)
	}
	return p.Net.Check() // weights that are no numbers, too
}

// Average returns sum(samples x weights) / sum(samples) over the parts, computed in float64. It fails when there is no part or one does
// not pass Check; whoever wants to go on without it leaves it out.
func Average(base *model.Net, parts []Part) (*model.Net, error) {
	if len(parts) == 0 {
		return nil, errors.New("there is nothing to average")
	}
	total := 0.0
	for _, p := range parts {
		if err := Check(base, p); err != nil {
			return nil, fmt.Errorf("the network of %s: %w", p.Who, err)
		}
		total += float64(p.Samples)
	}
	out := base.Clone()
	mean := func(of func(*model.Net) []float32) {
		to := of(out)
		for i := range to {
			sum := 0.0
			for _, p := range parts {
				sum += float64(p.Samples) / total * float64(of(p.Net)[i])
			}
			to[i] = float32(sum)
		}
	}
	for l := range out.W {
		mean(func(n *model.Net) []float32 { return n.W[l] })
		mean(func(n *model.Net) []float32 { return n.B[l] })
	}
	return out, nil
}
