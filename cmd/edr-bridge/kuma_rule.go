package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/edr-bridge/edr-bridge/bridge"
	"github.com/edr-bridge/edr-bridge/kuma/callout"
)

// kumaTimeout is the time KUMA should give a script, in seconds: a hundred times what a call takes.
const kumaTimeout = 5

// kumaRule is what to paste in KUMA for one task.
type kumaRule struct {
	Task      bridge.Kind `json:"task"`
	Name      string      `json:"name"`
	Type      string      `json:"type"`
	Script    string      `json:"script"`
	Arguments string      `json:"arguments"`
	Timeout   int         `json:"timeout"`
	Workers   string      `json:"workers"`
	Filter    string      `json:"filter"`
	Inherited []string    `json:"inherited_fields"`
	Hint      string      `json:"hint,omitempty"`
}

func (a *app) kumaRuleCommand() *cobra.Command {
	var eventID bool
	lang := "both"
	cmd := &cobra.Command{
		Use:   "rule [TASK]",
		Short: "Print what to paste in KUMA for a response rule",
		Long: `Print what to paste in KUMA for a response rule of the type script, all nine without a task.

With --event-id only the id of the event stands in the line and the bridge fetches the event from KUMA (kuma: in the settings): no value
an attacker wrote travels in a command line. This is the recommended form.`,
		Example: `  edr-bridge kuma rule isolateHost --event-id
  edr-bridge kuma rule terminateProcess --lang ru
  edr-bridge kuma rule -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkKUMALang(lang); err != nil {
				return err
			}
			tasks := kumaScripts()
			if len(args) == 1 {
				task, ok := callout.IsScriptName(args[0])
				if !ok {
					return usagef("no script has the name %q%s", printable(args[0]), bridge.DidYouMean(args[0], kumaTaskNames()))
				}
				tasks = []bridge.Kind{task}
			}
			return a.printKUMARules(tasks, eventID, lang)
		},
		ValidArgsFunction: cobra.FixedCompletions(kumaTaskNames(), cobra.ShellCompDirectiveNoFileComp),
	}
	cmd.Flags().BoolVar(&eventID, "event-id", false, "pass only the id of the event; the bridge fetches it")
	kumaLangFlag(cmd, &lang)
	return cmd
}

func kumaLangFlag(cmd *cobra.Command, lang *string) {
	cmd.Flags().StringVar(lang, "lang", "both", "language of KUMA's field names: en, ru or both")
}

func checkKUMALang(lang string) error {
	if !slices.Contains([]string{"en", "ru", "both"}, lang) {
		return usagef("--lang %q: want en, ru or both", printable(lang))
	}
	return nil
}

func kumaTaskNames() []string {
	var names []string
	for _, k := range kumaScripts() {
		names = append(names, string(k))
	}
	return names
}

func (a *app) printKUMARules(tasks []bridge.Kind, eventID bool, lang string) error {
	var rules []kumaRule
	for _, t := range tasks {
		rules = append(rules, newKUMARule(t, eventID))
	}
	if a.output == "table" {
		return writeKUMARules(a.std.out, rules, lang)
	}
	return printResult(a, rules, nil, nil)
}

func newKUMARule(task bridge.Kind, eventID bool) kumaRule {
	return kumaRule{
		Task: task, Name: "edr-bridge " + string(task), Type: "script", Script: callout.ScriptName(task), Arguments: callout.ScriptArguments(task, eventID),
		Timeout: kumaTimeout, Workers: "default", Filter: kumaFilter(task), Inherited: callout.ScriptFields(task), Hint: kumaHint(task),
	}
}

// kumaFilter is the condition on the correlation event: a rule without one fires for every correlation event of the correlator.
func kumaFilter(task bridge.Kind) string {
	return "CorrelationRuleName = '…' AND " + strings.Join(callout.ScriptFields(task), " != '' AND ") + " != ''"
}

func kumaHint(task bridge.Kind) string {
	switch task {
	case bridge.KindIsolateHost:
		return `a rule that releases: --action=0 and no --for; hosts are released by themselves after --for`
	case bridge.KindPreventExecution:
		return "KSC takes an MD5 here; a digest of the empty file is refused"
	case bridge.KindStartProcess:
		return "waits for approval by default; backslashes may be doubled"
	case bridge.KindDeleteFile:
		return `waits for approval by default; where the rule always has a digest, add "--hash={{.FileHash}}"`
	case bridge.KindGetFile, bridge.KindQuarantineFile:
		return `where the rule always has a digest, add "--hash={{.FileHash}}"`
	case bridge.KindTerminateProcess:
		return "DestinationProcessName is the started process in Windows 4688 and Sysmon 1, SourceProcessName its parent"
	case bridge.KindOnDemandScan:
		return `14 memory, 15 startup objects, 16 boot sectors: the critical areas; folders: "--path=C:\\Users"`
	case bridge.KindIOCScan:
		return "the archive lies on the correlator's server and is readable by user kuma"
	default:
		return ""
	}
}

// kumaLabels are the names of KUMA's fields in English and Russian (support.kaspersky.com/kuma/3.0.3/233366, …/help/XDR/2.0/ru-RU/265173.htm,
// …/KUMA/2.1/ru-RU/259342.htm).
func kumaLabels() map[string][2]string {
	return map[string][2]string{
		"name":      {"Name", "Название"},
		"type":      {"Type", "Тип"},
		"script":    {"Script name", "Название скрипта"},
		"arguments": {"Script arguments", "Аргументы скрипта"},
		"timeout":   {"Timeout", "Время ожидания"},
		"workers":   {"Handlers (Workers)", "Обработчики (Рабочие процессы)"},
		"filter":    {"Conditions (Filter)", "Условия (Фильтр)"},
		"inherited": {"Propagated fields of the correlation rule", "Наследуемые поля правила корреляции"},
	}
}

func kumaLabel(key, lang string) string {
	l := kumaLabels()[key]
	return kumaWord(lang, l[0], l[1])
}

func kumaWord(lang, en, ru string) string {
	switch lang {
	case "en":
		return en
	case "ru":
		return ru
	default:
		return en + " / " + ru
	}
}

func writeKUMARules(out io.Writer, rules []kumaRule, lang string) error {
	var b strings.Builder
	for i, r := range rules {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s\n", kumaWord(lang, "Response rule", "Правило реагирования")+" "+r.Script)
		for _, row := range [][2]string{
			{"name", r.Name},
			{"type", kumaWord(lang, "Run script", "Запуск скрипта") + " (" + r.Type + ")"},
			{"script", r.Script},
			{"arguments", r.Arguments},
			{"timeout", fmt.Sprint(r.Timeout)},
			{"workers", kumaWord(lang, "leave the default", "оставьте значение по умолчанию")},
			{"filter", r.Filter},
			{"inherited", strings.Join(r.Inherited, ", ")},
		} {
			fmt.Fprintf(&b, "  %s: %s\n", kumaLabel(row[0], lang), row[1])
		}
		if r.Hint != "" {
			fmt.Fprintf(&b, "  # %s\n", r.Hint)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
