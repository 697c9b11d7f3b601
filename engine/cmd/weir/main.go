// Weir is the engine of a self-optimizing load balancer: NGINX routes by the tables it learns. This is its one binary.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/alecthomas/kong"
)

// cli is the command line. Only commands that work are in it.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Run the engine."`
	Check    checkCmd    `cmd:"" help:"Check weir.yaml, and whether an NGINX configuration fits it. Ends with 1 on errors."`
	Health   healthCmd   `cmd:"" help:"Ask a running engine whether it serves. Ends with 1 when it does not."`
	Peers    peersCmd    `cmd:"" help:"Show the peers of a running engine; drain them, change their weights."`
	Split    splitCmd    `cmd:"" help:"Show how a canary compares with the rest of its pool; change its share."`
	Explain  explainCmd  `cmd:"" help:"Show why requests of a class go where they go."`
	History  historyCmd  `cmd:"" help:"Show what was, from the history store."`
	Migrate  migrateCmd  `cmd:"" help:"Make the tables of the history store, or show their state."`
	Simulate simulateCmd `cmd:"" help:"Compare balancing policies in a scenario, the engine's own among them."`
	Train    trainCmd    `cmd:"" help:"Train a model in simulated worlds."`
	Evaluate evaluateCmd `cmd:"" help:"Judge a model by recorded history, without letting it decide anything."`
	Version  versionCmd  `cmd:"" help:"Show version, revision and protocol version."`
}

// streams are where commands write.
type streams struct{ out, err io.Writer }

// errQuiet ends a command with 1 when it has said already why.
var errQuiet = errors.New("")

func main() { os.Exit(run(os.Args[1:], streams{os.Stdout, os.Stderr})) }

// exited carries an exit asked for by kong, as after --help.
type exited int

// needs refuses flags that were given without the one that they say more of: alone they would do nothing. has tells whether that one is there.
func needs(parsed *kong.Context, has bool, with string, flags ...string) error {
	for _, p := range parsed.Path {
		if !has && p.Flag != nil && slices.Contains(flags, p.Flag.Name) {
			return fmt.Errorf("--%s does nothing without --%s", p.Flag.Name, with)
		}
	}
	return nil
}

// run runs the command line and returns the exit code.
func run(args []string, to streams) (code int) {
	defer func() {
		if r := recover(); r != nil {
			asked, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(asked)
		}
	}()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("weir"), kong.Description("A self-optimizing load balancer: NGINX routes, this engine learns."),
		kong.Writers(to.out, to.err), kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Bind(to),
		kong.Vars{"policies": policyNames()},
	)
	if err != nil {
		fmt.Fprintln(to.err, "weir:", err)
		return 1
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(to.err, "weir:", err)
		fmt.Fprintln(to.err, "weir --help tells the commands.")
		return 2
	}
	if err := ctx.Run(); err != nil {
		if !errors.Is(err, errQuiet) {
			fmt.Fprintln(to.err, "weir:", err)
		}
		return 1
	}
	return 0
}
