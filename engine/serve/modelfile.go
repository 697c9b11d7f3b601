package serve

import (
	"fmt"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/learn/online"
	"github.com/weirlb/weir/engine/model"
	"github.com/weirlb/weir/models"
)

// Model is a model the engine knows. Nothing in it is ever changed, and nobody else may.
type Model struct {
	ID     string // model.ID of File
	File   []byte
	Net    *model.Net
	Meta   model.Meta
	Price  decide.Price // of Meta
	Origin string       // "built in", a path, or what whoever proposed it said
}

// wanted is what a model must take and give.
func wanted() model.Meta {
	return model.Meta{Features: decide.InputNames(), Heads: []string{decide.Head}}
}

// ReadModel reads what a configuration names; nil without an error when it names none. The errors say what is wrong with the file.
func ReadModel(file string) (*Model, error) {
	var bytes []byte
	var err error
	origin := file
	switch file {
	case config.ModelNone, "":
		return nil, nil
	case config.ModelDefault:
		bytes, err = models.Default()
		origin = "built in"
	default:
		bytes, err = model.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	return newModel(bytes, origin)
}

// ReadOnline reads the same as what the simulator, trainings and judgements go by; without a net where a configuration names none.
func ReadOnline(file string) (online.Model, error) {
	m, err := ReadModel(file)
	if err != nil {
		return online.Model{}, err
	}
	return m.online(), nil
}

// online is the model for who learns from it; of nil, none.
func (m *Model) online() online.Model {
	if m == nil {
		return online.Model{}
	}
	return online.Model{ID: m.ID, Net: m.Net, Price: m.Price}
}

func newModel(file []byte, origin string) (*Model, error) {
	net, meta, err := model.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", origin, err)
	}
	m := &Model{ID: model.ID(file), File: file, Net: net, Meta: meta, Origin: origin}
	if err := meta.Fits(wanted()); err != nil {
		return nil, fmt.Errorf("%s: model %s was made for another engine: %w", origin, m.ID, err)
	}
	if m.Price, err = decide.ReadPrice(meta.Price); err != nil {
		return nil, fmt.Errorf("%s: model %s: %w", origin, m.ID, err)
	}
	return m, nil
}
