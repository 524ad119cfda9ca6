"""How the report looks: one style sheet, light and dark, and no script."""

STYLE = """
:root { --bg:#f6f7f9; --card:#fff; --ink:#1b1f27; --soft:#5d6675; --line:#e3e6ec; --accent:#2f6fed;
  --c1:#2f6fed; --c2:#e0662f; --c3:#2a9d73; --c4:#8a5cd6; --good:#2a9d73; --bar:#dfe6f5; }
@media (prefers-color-scheme: dark) { :root { --bg:#12151b; --card:#1a1f27; --ink:#e8ebf1; --soft:#98a2b3;
  --line:#2a313c; --accent:#6d9bff; --c1:#6d9bff; --c2:#ff9263; --c3:#54c89c; --c4:#b594f5; --bar:#263149; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--bg); color:var(--ink);
  font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif; }
main { max-width:1080px; margin:0 auto; padding:40px 24px 64px; }
header { display:flex; flex-wrap:wrap; align-items:baseline; gap:8px 16px; margin-bottom:24px; }
h1 { font-size:28px; letter-spacing:-.02em; margin:0; }
header p { margin:0; color:var(--soft); }
.badge { border:1px solid var(--line); border-radius:999px; padding:2px 11px; font-size:12.5px;
  color:var(--soft); background:var(--card); }
h2 { font-size:17px; margin:40px 0 12px; letter-spacing:-.01em; }
h3 { font-size:14px; margin:0 0 8px; }
.cards { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; }
.card, .panel { background:var(--card); border:1px solid var(--line); border-radius:12px; }
.card { padding:14px 16px 12px; }
.card b { display:block; font-size:25px; letter-spacing:-.02em; font-variant-numeric:tabular-nums; }
.card b small { font-size:13px; font-weight:500; color:var(--soft); margin-left:3px; }
.card span { color:var(--soft); font-size:12.5px; }
.panel { padding:16px; }
.two { display:grid; grid-template-columns:repeat(auto-fit,minmax(420px,1fr)); gap:14px; }
figure { margin:0; } figcaption, .note { color:var(--soft); font-size:13px; margin-top:8px; }
img, video { display:block; width:100%; border-radius:8px; background:#000; }
img.strip { image-rendering:auto; }
table { width:100%; border-collapse:collapse; font-size:14px; }
th { text-align:left; font-weight:600; color:var(--soft); font-size:12.5px; }
th, td { padding:8px 10px; border-bottom:1px solid var(--line); vertical-align:top; }
tr:last-child td { border-bottom:0; }
th.num { text-align:right; }
td.num { font-variant-numeric:tabular-nums; white-space:nowrap; font-weight:600; text-align:right; }
td.num.none { color:var(--soft); font-weight:400; }
td.name { white-space:nowrap; }
td.what { color:var(--soft); }
td.gauge { width:150px; padding-top:14px; }
.gauge div { height:7px; border-radius:4px; background:var(--bar); overflow:hidden; }
.gauge i { display:block; height:100%; border-radius:4px; background:var(--accent); }
.chart { width:100%; height:auto; display:block; }
.chart .grid { stroke:var(--line); stroke-width:1; }
.chart .tick, .chart .axis { fill:var(--soft); font-size:11px; font-family:inherit; }
.chart .marker { stroke:var(--soft); stroke-width:1; stroke-dasharray:4 4; }
.chart .line { fill:none; stroke-width:1.8; stroke-linejoin:round; }
.line.c1 { stroke:var(--c1); } .line.c2 { stroke:var(--c2); } .line.c3 { stroke:var(--c3); }
.line.c4 { stroke:var(--c4); }
.legend { display:flex; flex-wrap:wrap; gap:4px 16px; font-size:12.5px; color:var(--soft); margin-top:6px; }
.key i { display:inline-block; width:14px; height:3px; border-radius:2px; margin-right:6px;
  vertical-align:middle; }
i.c1 { background:var(--c1); } i.c2 { background:var(--c2); } i.c3 { background:var(--c3); }
i.c4 { background:var(--c4); }
pre { margin:0; padding:14px 16px; background:var(--card); border:1px solid var(--line); border-radius:12px;
  overflow-x:auto; font:13px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:5px 18px; margin:0; font-size:14px; }
dt { color:var(--soft); } dd { margin:0; overflow-wrap:anywhere; }
footer { margin-top:40px; color:var(--soft); font-size:13px; }
"""
