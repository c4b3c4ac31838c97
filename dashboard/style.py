"""The style sheet of our own HTML, and the colours that the server's theme is set to. One source for app and report."""

from __future__ import annotations

from typing import Any

from benchrun.dashboard.charts.look import DARK, LIGHT, Look

PRIMARY = {"light": "#0b6bb8", "dark": "#5cb0f5"}
SECONDARY = {"light": "#f4f6f9", "dark": "#19212b"}
BORDER = {"light": "#d9dfe7", "dark": "#303b48"}


def icon() -> Any:
    """The page's icon, three bars, as a picture: an icon by name would be fetched from the internet."""
    from PIL import Image

    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    for left, top, colour in ((3, 17, (11, 107, 184)), (12, 10, (11, 107, 184)), (21, 3, (194, 65, 12))):
        picture.paste((*colour, 255), (left, top, left + 8, 29))
    return picture


def theme_options() -> dict[str, str]:
    """Streamlit's `theme.…` options."""
    options: dict[str, str] = {"theme.baseRadius": "small"}
    for look in (LIGHT, DARK):
        options |= {
            f"theme.{look.name}.primaryColor": PRIMARY[look.name],
            f"theme.{look.name}.backgroundColor": look.background,
            f"theme.{look.name}.secondaryBackgroundColor": SECONDARY[look.name],
            f"theme.{look.name}.textColor": look.text,
            f"theme.{look.name}.borderColor": BORDER[look.name],
            f"theme.{look.name}.linkColor": PRIMARY[look.name],
        }
    return options


def style_sheet(look: Look) -> str:
    """CSS for the classes that `markup` uses."""
    border, cover, shade = BORDER[look.name], look.background, f"color-mix(in srgb, {look.text} 26%, transparent)"
    return f"""
.br-scroll {{ overflow-x: auto; max-width: 100%; scrollbar-width: thin; /* a shadow at the side where more columns are */
  background: linear-gradient({cover}, {cover}) left / 1rem 100% no-repeat local, linear-gradient({cover}, {cover}) right / 1rem 100%
  no-repeat local, linear-gradient(to right, {shade}, transparent) left / 0.7rem 100% no-repeat scroll,
  linear-gradient(to left, {shade}, transparent) right / 0.7rem 100% no-repeat scroll; }}
.br-scroll:focus-visible {{ outline: 2px solid {PRIMARY[look.name]}; outline-offset: 2px; }}
table.br {{ border-collapse: collapse; font-size: 0.875rem; line-height: 1.35; color: {look.text}; }}
table.br caption {{ text-align: left; color: {look.muted}; padding: 0 0 0.4rem; }}
table.br th, table.br td {{ padding: 0.38rem 0.75rem; border: 0; border-bottom: 1px solid {border}; text-align: left; vertical-align: top;
  white-space: nowrap; }}
table.br td {{ max-width: 26rem; overflow: hidden; text-overflow: ellipsis; }}
table.br th {{ font-weight: 600; color: {look.muted}; vertical-align: bottom; }}
table.br th.group {{ text-align: center; color: {look.text}; border-bottom: 2px solid {border}; }}
table.br th small {{ display: block; font-weight: 400; font-size: 0.78rem; }}
table.br .number {{ text-align: right; font-variant-numeric: tabular-nums; }}
table.br tbody tr:hover td {{ background: {SECONDARY[look.name]}; }}
table.br s, dl.br s {{ color: {look.muted}; }}
.br .muted {{ color: {look.muted}; }}
.br .strong {{ font-weight: 600; }}
.br .failed {{ color: {look.failed}; }}
.br .slower {{ color: {look.slower}; font-weight: 600; }}
.br .faster {{ color: {look.faster}; font-weight: 600; }}
.br a {{ color: {PRIMARY[look.name]}; }}
dl.br {{ display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: 0.25rem 1.25rem; margin: 0; padding: 0 !important;
  font-size: 0.9rem; color: {look.text}; }}
dl.br dt, dl.br dd {{ margin: 0; padding: 0; font-size: inherit; }}
.br-facts {{ columns: 2 24rem; column-gap: 3rem; }}
.br-facts section {{ break-inside: avoid; margin: 0 0 1.1rem; }}
.br-facts h4 {{ font-size: 0.95rem !important; font-weight: 600; color: {look.text}; margin: 0 0 0.3rem; padding: 0; }}
dl.br dt {{ color: {look.muted}; }}
dl.br dd {{ overflow-wrap: anywhere; }}
[data-testid="stMultiSelect"] [data-tag], [data-testid="stMultiSelect"] [data-tag] * {{ color: {look.background} !important; }}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {{ color: {look.muted} !important; opacity: 1 !important; }}
"""


APP_SHEET = """
h1 { font-size: 1.7rem !important; padding: 0 0 0.4rem !important; }
h3 { font-size: 1.15rem !important; padding: 0.9rem 0 0.3rem !important; }
h6 { padding: 0.4rem 0 0 !important; }
[data-testid="stMetricValue"] { font-size: 1.5rem; }
[data-testid="stMainBlockContainer"] { max-width: 1480px; padding: 4.5rem 2rem 4rem; }
[data-testid="stMetric"] { padding: 0.15rem 0; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 4rem 1rem 3rem; }
  dl.br { grid-template-columns: 1fr; gap: 0.1rem; }
  dl.br dd { margin-bottom: 0.4rem; }
}
"""
