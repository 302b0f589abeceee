// What the editor holds at first; the cursor stands where the bar is.

export const SAMPLES = {
  python: `class Inventory:
    def __init__(self, warehouse):
        self.warehouse = warehouse
        self.quantities = {}

    def add(self, product, quantity):
        known_quantity = self.quantities.get(product, 0)
        self.quantities[product] = known_quantity + quantity

    def remove(self, product, quantity):
        known_quantity = self.|
`,
  java: `public class Inventory {
    private final Map<String, Integer> quantities = new HashMap<>();

    public void add(String product, int quantity) {
        int knownQuantity = quantities.getOrDefault(product, 0);
        quantities.put(product, knownQuantity + |);
    }
}
`,
  typescript: `export class Inventory {
  private quantities = new Map<string, number>();

  add(product: string, quantity: number): void {
    const knownQuantity = this.quantities.get(product) ?? 0;
    this.quantities.set(product, knownQuantity + |);
  }
}
`,
  tsx: `type ProductProps = { title: string; quantity: number };

export function Product({ title, quantity }: ProductProps) {
  const isSoldOut = quantity === 0;
  return <li className={|}>{title}: {quantity}</li>;
}
`,
  javascript: `export function totalPrice(products, discount) {
  let total = 0;
  for (const product of products) {
    total += product.price * product.|;
  }
  return total * (1 - discount);
}
`,
};
