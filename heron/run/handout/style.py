"""The page's style sheet: one column, light and dark by the reader's choice, and fit for paper."""

STYLE = """
  :root { --ink: #1f2733; --soft: #667085; --ground: #f5f7fa; --card: #ffffff; --edge: #d9dee7; --blue: #2f6bdc; --good: #0b7a53;
    --bad: #b42318; --warm: #fff8eb; --warm-edge: #e8c07a; color-scheme: light dark; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e6eaf2; --soft: #97a3b6; --ground: #0c0f14; --card: #12161d; --edge: #2b323d;
    --blue: #79a8ff; --good: #4cd6a0; --bad: #ff8f85; --warm: #211a0c; --warm-edge: #6b5320; } }
  * { box-sizing: border-box; }
  body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55;
    font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-size: 16px; }
  main { max-width: 920px; margin: 0 auto; padding: 40px 20px 64px; }
  h1 { font-size: 30px; line-height: 1.2; margin: 4px 0 8px; font-weight: 680; letter-spacing: -0.01em; overflow-wrap: anywhere; }
  h2 { font-size: 19px; margin: 44px 0 12px; font-weight: 650; }
  p { margin: 0 0 10px; } header p { margin: 0; }
  .soft, figcaption, footer { color: var(--soft); font-size: 14px; }
  .result { background: var(--card); border: 1px solid var(--edge); border-radius: 14px; padding: 24px 28px 16px; margin-top: 28px; }
  .great { font-size: 52px; font-weight: 700; line-height: 1.1; margin-bottom: 14px; color: var(--blue); letter-spacing: -0.02em;
    font-variant-numeric: tabular-nums; }
  .great .was { color: var(--soft); font-weight: 400; } .lead { font-size: 18px; font-weight: 600; }
  table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: 8px 0 8px 16px; border-bottom: 1px solid var(--edge); font-weight: 400; vertical-align: top; }
  th:first-child, td:first-child { text-align: left; padding-left: 0; } tr:first-child th { color: var(--soft); font-size: 14px; }
  td { white-space: nowrap; } table + .soft { margin-top: 8px; }
  tr:nth-child(2) td { font-weight: 650; }
  figure { margin: 0 0 22px; } figcaption { margin-top: 6px; } svg { display: block; width: 100%; height: auto; }
  article { background: var(--card); border: 1px solid var(--edge); border-radius: 14px; padding: 16px 20px; margin: 0 0 14px;
    break-inside: avoid; }
  .question { font-weight: 600; white-space: pre-wrap; overflow-wrap: anywhere; margin-bottom: 2px; }
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 20px; } .pair > div { min-width: 0; }
  .label { color: var(--soft); font-size: 14px; margin: 6px 0 4px; } .good { color: var(--good); } .bad { color: var(--bad); }
  pre { font: 13.5px/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; margin: 0;
    overflow-wrap: anywhere; }
  code { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; font-size: 0.92em; overflow-wrap: anywhere; }
  .alert { background: var(--warm); border-color: var(--warm-edge); } .alert p:last-child { margin-bottom: 0; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: 8px 24px; margin: 0; } dt { color: var(--soft); }
  dd { margin: 0; overflow-wrap: anywhere; }
  summary { cursor: pointer; color: var(--blue); } details pre { margin-top: 14px; padding: 16px 20px; background: var(--card);
    border: 1px solid var(--edge); border-radius: 14px; }
  footer { margin-top: 56px; border-top: 1px solid var(--edge); padding-top: 16px; }
  @media (max-width: 640px) { main { padding: 24px 16px 48px; } h1 { font-size: 24px; } .great { font-size: 36px; }
    .result { padding: 18px 18px 10px; }
    .pair, dl { grid-template-columns: 1fr; gap: 8px; } dl { gap: 2px; } dd { margin-bottom: 10px; } th, td { font-size: 14px; } }
  @media (max-width: 640px) { figure { overflow-x: auto; } svg { min-width: 640px; } }
  @media print { body { background: none; font-size: 12px; } main { padding: 0; } h2 { break-after: avoid; }
    figure { break-inside: avoid; } }
"""
