package ioc_test

import (
	"archive/zip"
	"bytes"
	"fmt"

	"github.com/edr-bridge/edr-bridge/localagent/ioc"
)

func Example() {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	f, err := w.Create("dropper.ioc")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(f, `<ioc xmlns="http://schemas.mandiant.com/2010/ioc" id="d1"><definition><Indicator operator="AND">
	  <IndicatorItem id="t1" condition="is"><Context document="FileItem" search="FileItem/FileName"/><Content>x.exe</Content></IndicatorItem>
	  <IndicatorItem id="t2" condition="is"><Context document="RegistryItem" search="RegistryItem/Path"/><Content>HKLM</Content></IndicatorItem>
	</Indicator></definition></ioc>`)
	if err := w.Close(); err != nil {
		fmt.Println(err)
		return
	}
	docs, err := ioc.Read(archive.Bytes(), ioc.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, report := ioc.Compile(docs)
	fmt.Println(docs[0].ID, docs[0].Version, report.Terms, "terms")
	fmt.Println(report.Unsupported[0].Search, report.Unsupported[0].Why, report.Hopeless)
	// Output:
	// d1 1.0 2 terms
	// RegistryItem/Path this kind of object is not collected [d1]
}
